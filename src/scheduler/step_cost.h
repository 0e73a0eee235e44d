// What a step of so many rows costs, beside one of fewer: whether guessed tokens are worth their rows.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace syncyte {

// Fed with every step without prompts. Only costs in proportion matter, and those change less than seconds:
// what makes one step slower, a busy machine or a longer cache, makes all so. The engine thread only.
class StepCost {
  public:
    static constexpr std::size_t kMostRows = 256;

    void note(std::size_t rows, double seconds);
    // Of a step of 1 to kMostRows rows, in the unit of the others. Between measured numbers of rows it is
    // interpolated, beyond them assumed.
    [[nodiscard]] double of(std::size_t rows) const;
    // The same in seconds, as of the last steps. 0: nothing was measured.
    [[nodiscard]] double seconds(std::size_t rows) const { return level_ * of(rows); }
    // Whether steps of so many rows were measured often enough, and lately.
    [[nodiscard]] bool knows(std::size_t rows) const;

  private:
    struct Measured {
        double cost = 0;  // in units of level_
        std::uint32_t times = 0;
        std::uint64_t when = 0;  // in steps
    };

    std::array<Measured, kMostRows + 1> measured_{};
    double level_ = 0;  // seconds
    std::uint64_t steps_ = 0;
};

}  // namespace syncyte
