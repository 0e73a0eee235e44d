#include "base/core_budget.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <thread>

#include "base/cpu.h"

namespace syncyte {

namespace {

using std::chrono::milliseconds;

constexpr double kArrival = 0.004;    // seconds until most of a rise is believed
constexpr double kDeparture = 0.050;  // and of a fall
constexpr double kConvincing = 0.8;   // of a thread: then it counts as one
constexpr Clock::duration kStale = milliseconds(100);
constexpr Clock::duration kBetweenLooks = milliseconds(1);
constexpr std::chrono::microseconds kBetweenFirstLooks{50};
constexpr double kPatience = 0.05;  // of a computation, for first looks
constexpr double kLeastPatience = 250e-6;
constexpr double kMostPatience = 8e-3;  // a team of libgomp's spins for less

// Relaxed: the pair stands for itself.
constinit std::atomic<FixedCores> cores_fixed{FixedCores{}};
static_assert(std::atomic<FixedCores>::is_always_lock_free);

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

void CoreBudget::refresh(double seconds, int (*look)() noexcept) {
    const Clock::time_point start = Clock::now();
    if (last_ != Clock::time_point::min() && start - last_ < kStale) return;
    const double patience = std::clamp(seconds * kPatience, kLeastPatience, kMostPatience);
    int least = look();
    while (least > 1 && seconds_between(start, Clock::now()) < patience) {
        std::this_thread::sleep_for(kBetweenFirstLooks);
        least = std::min(least, look());
    }
    begin(least, Clock::now());
}

void CoreBudget::begin(int least, Clock::time_point now) {
    last_ = Clock::time_point::min();
    observe(least, 1, now);
}

int CoreBudget::threads(int most, int usable, int online, FixedCores fixed) const {
    const int granted = std::min(most, usable - fixed.agents);
    const int left = fixed.engine > 0 ? fixed.engine : online - static_cast<int>(others_ + 1 - kConvincing);
    return std::max(std::min(granted, left), 1);
}

int CoreBudget::threads(int most) const {
    return threads(most, usable_cores(), online_cores(), fixed_cores());
}

void fix_cores(FixedCores cores) noexcept { cores_fixed.store(cores, std::memory_order_relaxed); }

FixedCores fixed_cores() noexcept { return cores_fixed.load(std::memory_order_relaxed); }

}  // namespace syncyte
