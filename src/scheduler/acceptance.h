// How often guessed tokens were right.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace syncyte {

// By where the guess comes from. Old guesses fade. The engine thread only.
class Acceptance {
  public:
    // A match of at least so many tokens (scheduler/lookup.h), or a draft model that was so sure of it.
    // kDrafted: a draft model, however sure.
    enum class Kind : std::uint8_t {
        kMatchOf3,
        kMatchOf5,
        kMatchOf8,
        kMatchOf16,
        kUnlikely,
        kPossible,
        kLikely,
        kSure,
        kDrafted,
    };
    static Kind of_match(std::size_t length);
    static Kind of_probability(double probability);

    // Guesses that are remembered, about.
    explicit Acceptance(double memory) : kept_(1 - 1 / memory) {}

    void note(Kind kind, bool right);
    // The chance that such a guess is right; while few were seen it is near `otherwise`.
    [[nodiscard]] double rate(Kind kind, double otherwise) const;
    // Nothing is known of a draft model any more.
    void forget_drafted();

  private:
    struct Count {
        double tried = 0;
        double right = 0;
    };

    std::array<Count, static_cast<std::size_t>(Kind::kDrafted) + 1> counts_{};
    double kept_;
};

}  // namespace syncyte
