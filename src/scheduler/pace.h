// How long steps take, and so how many prompt tokens fit beside those who stream.
#pragma once

#include <cstddef>

namespace syncyte {

// Fed with every step, and asked before the next. The engine thread only.
class Pace {
  public:
    // A step that somebody's stream waits for should take so many seconds.
    static constexpr double kTarget = 0.15;

    // A step of `decoding` rows of running answers and `prompt` rows of prompts took `seconds`.
    void note(std::size_t decoding, std::size_t prompt, double seconds);

    // Rows of prompts for a step with `decoding` other rows that somebody's stream waits for, at most `most`:
    // all of them without such rows.
    [[nodiscard]] std::size_t prompt_rows(std::size_t decoding, std::size_t most) const;

    // Rows of prompts for a step with `decoding` other rows that is to take no more than so many seconds.
    [[nodiscard]] std::size_t rows_within(double seconds, std::size_t decoding) const;

    // Seconds until the next token of a sequence that misses `rows` rows: for one row what a step takes on
    // average, for a prompt half of what it took lately, for it may speed up. 0: not known.
    [[nodiscard]] double least_seconds(std::size_t rows) const;

  private:
    double step_ = 0;  // seconds of a step without prompts; 0: none yet
    double row_ = 0;   // seconds for each row of a step with prompts; 0: none yet
};

}  // namespace syncyte
