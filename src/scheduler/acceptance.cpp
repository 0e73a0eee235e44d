#include "scheduler/acceptance.h"

#include <utility>

#include "scheduler/lookup.h"

namespace syncyte {

Acceptance::Kind Acceptance::of_match(std::size_t length) {
    if (length < 5) return Kind::kMatchOf3;
    if (length < kGoodMatch) return Kind::kMatchOf5;
    return length < kLongestMatch ? Kind::kMatchOf8 : Kind::kMatchOf16;
}

Acceptance::Kind Acceptance::of_probability(double probability) {
    if (probability < 0.3) return Kind::kUnlikely;
    if (probability < 0.6) return Kind::kPossible;
    return probability < 0.9 ? Kind::kLikely : Kind::kSure;
}

void Acceptance::note(Kind kind, bool right) {
    Count& count = counts_[std::to_underlying(kind)];
    count.tried = (count.tried * kept_) + 1;
    count.right = (count.right * kept_) + (right ? 1 : 0);
}

double Acceptance::rate(Kind kind, double otherwise) const {
    // Guesses that `otherwise` counts for. Matches of one text are right or wrong together; a draft model is
    // given up for long, so not after a few.
    const double doubt = kind < Kind::kUnlikely ? 1.5 : 6;
    const Count& count = counts_[std::to_underlying(kind)];
    return (count.right + doubt * otherwise) / (count.tried + doubt);
}

void Acceptance::forget_drafted() {
    for (std::size_t kind = std::to_underlying(Kind::kUnlikely); kind < counts_.size(); ++kind) {
        counts_[kind] = {};
    }
}

}  // namespace syncyte
