// How often guessed tokens were right.
#pragma once

#include <array>
#include <cstddef>

namespace syncyte {

// By the length of the match that they were guessed from. Old guesses fade. The engine thread only.
class Acceptance {
  public:
    // Guesses that are remembered, about.
    explicit Acceptance(double memory) : kept_(1 - 1 / memory) {}

    // Of a guess from a match of so many tokens, `tried` tokens were looked at and the first `right` of them
    // were right.
    void note(std::size_t matched, std::size_t tried, std::size_t right);
    // The chance that the next token of such a guess is right; with few guesses it is near `otherwise`.
    [[nodiscard]] double rate(std::size_t matched, double otherwise) const;

  private:
    struct Count {
        double tried = 0;
        double right = 0;
    };
    static std::size_t kind_of(std::size_t matched);

    std::array<Count, 4> counts_{};
    double kept_;
};

}  // namespace syncyte
