// DRY: makes the model less likely to go on with a sequence that was there before.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/model.h"

namespace syncyte {

// The longer the end of the text repeats an earlier part, the more is taken off the token that followed
// there: multiplier * base ^ (length - allowed_length).
struct DryParams {
    float multiplier = 0.0F;  // 0: off
    float base = 1.75F;       // at least 1
    std::int32_t allowed_length = 2;
};

// One per request; one thread at a time.
class Dry {
  public:
    explicit Dry(const DryParams& params) : params_(params) {}

    // Adds a token to the text. A repetition does not reach over one that `breaks`.
    void add(Token token, bool breaks);
    // Takes the penalties off. Time grows with the length of the text.
    void penalise(std::span<float> logits);

  private:
    DryParams params_;
    std::vector<Token> text_;
    std::size_t since_break_ = 0;  // tokens after the last one that breaks
    // Kept between calls for their memory.
    std::vector<Token> reversed_;
    std::vector<std::size_t> matches_;
    std::vector<std::pair<Token, std::size_t>> longest_;
};

}  // namespace syncyte
