#include "scheduler/acceptance.h"

#include <cmath>

#include "scheduler/lookup.h"

namespace syncyte {

std::size_t Acceptance::kind_of(std::size_t matched) {
    if (matched < 5) return 0;
    if (matched < 8) return 1;
    return matched < kLongestMatch ? 2 : 3;
}

void Acceptance::note(std::size_t matched, std::size_t tried, std::size_t right) {
    Count& count = counts_[kind_of(matched)];
    const double kept = std::pow(kept_, static_cast<double>(tried));
    count.tried = count.tried * kept + static_cast<double>(tried);
    count.right = count.right * kept + static_cast<double>(right);
}

double Acceptance::rate(std::size_t matched, double otherwise) const {
    constexpr double kDoubt = 1.5;  // guesses that `otherwise` counts for
    const Count& count = counts_[kind_of(matched)];
    return (count.right + kDoubt * otherwise) / (count.tried + kDoubt);
}

}  // namespace syncyte
