#include "base/core_budget.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/cpu.h"

namespace syncyte {

namespace {

using std::chrono::milliseconds;

constexpr double kArrival = 0.004;    // seconds until most of a rise is believed
constexpr double kDeparture = 0.050;  // and of a fall
constexpr Clock::duration kStale = milliseconds(100);
constexpr Clock::duration kBetweenLooks = milliseconds(1);

}  // namespace

void CoreBudget::observe(int running, int own, Clock::time_point now) {
    const double here = std::max(running - own, 0);
    if (last_ == Clock::time_point::min() || now - last_ >= kStale) {
        looks_.fill(here);
        others_ = here;
        count_ = 1;
    } else {
        looks_[count_++ % kLooks] = here;
        const double seen = std::ranges::min(looks_);
        const double time_constant = seen > others_ ? kArrival : kDeparture;
        const double part = 1 - std::exp(-seconds_between(last_, now) / time_constant);
        // The first look after a pause may have met those whose requests ended it, on their way to wait.
        others_ = count_ <= kLooks ? seen : others_ + (seen - others_) * part;
    }
    last_ = now;
}

void CoreBudget::observe_machine(int own) {
    const Clock::time_point now = Clock::now();
    if (last_ != Clock::time_point::min() && now - last_ < kBetweenLooks) return;
    observe(running_threads(), own, now);
}

void CoreBudget::refresh() {
    const Clock::time_point now = Clock::now();
    if (last_ == Clock::time_point::min() || now - last_ >= kStale) observe(running_threads(), 1, now);
}

int CoreBudget::threads(int most, int usable, int online) const {
    const int left = online - static_cast<int>(std::lround(others_));
    return std::max(std::min({most, usable, left}), 1);
}

int CoreBudget::threads(int most) const { return threads(most, usable_cores(), online_cores()); }

}  // namespace syncyte
