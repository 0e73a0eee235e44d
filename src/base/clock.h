// Monotonic time and deadlines.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>

namespace syncyte {

using Clock = std::chrono::steady_clock;

inline double seconds_between(Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double>(to - from).count();
}

// A point in monotonic time until which a call may block; never() waits for ever, now() not at all.
class Deadline {
  public:
    static Deadline never() { return Deadline(Clock::time_point::max()); }
    static Deadline now() { return Deadline(Clock::time_point::min()); }
    static Deadline at(Clock::time_point when) { return Deadline(when); }

    // `seconds` from now. Negative means now(); NaN and what no clock can hold mean never().
    static Deadline after(double seconds) {
        constexpr double kLongest = 1e9;  // about thirty years
        if (std::isnan(seconds) || seconds > kLongest) return never();
        if (seconds <= 0) return now();
        return Deadline(Clock::now() +
                        std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds)));
    }

    // `seconds` on this clock, as Python's time.monotonic() counts them.
    static Deadline at(double seconds) {
        constexpr double kLatest = 9e9;
        if (std::isnan(seconds) || seconds > kLatest) return never();
        if (seconds <= 0) return now();
        return at(Clock::time_point(
            std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds))));
    }

    [[nodiscard]] bool is_never() const { return when_ == Clock::time_point::max(); }
    [[nodiscard]] bool is_now() const { return when_ == Clock::time_point::min(); }
    [[nodiscard]] bool passed() const { return is_now() || (!is_never() && Clock::now() >= when_); }
    [[nodiscard]] Clock::time_point time() const { return when_; }

    friend auto operator<=>(const Deadline&, const Deadline&) = default;

  private:
    explicit Deadline(Clock::time_point when) : when_(when) {}

    Clock::time_point when_;
};

inline Deadline earlier(Deadline a, Deadline b) { return std::min(a, b); }

}  // namespace syncyte
