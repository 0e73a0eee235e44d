// Who goes first: by priority, then by deadline, then by arrival.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <limits>

#include "base/clock.h"

namespace syncyte {

// So long a wait counts as one level of priority: whoever waits rises until nobody passes it any more.
inline constexpr std::chrono::seconds kAgeing{10};

// Orders requests at one moment; the smaller goes first.
struct Urgency {
    std::int64_t sunk = 0;                                  // priority and age, negated
    Clock::time_point deadline = Clock::time_point::max();  // max: none
    // Of the first in line of an adapter that has no place: since which round it has none.
    std::uint64_t unplaced_since = std::numeric_limits<std::uint64_t>::max();
    std::uint64_t arrival = 0;

    friend auto operator<=>(const Urgency&, const Urgency&) = default;
};

inline constexpr Urgency kNotUrgent{.sunk = std::numeric_limits<std::int64_t>::max()};

inline Urgency urgency_of(std::int32_t priority, Clock::duration waited, Clock::time_point deadline,
                          std::uint64_t arrival) {
    return {.sunk = -(std::int64_t{priority} + waited / kAgeing), .deadline = deadline, .arrival = arrival};
}

}  // namespace syncyte
