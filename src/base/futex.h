// The Linux futex calls, private to this process. Used by Lock and Parker only.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>

#include "base/clock.h"

namespace syncyte {

enum class FutexWake : std::uint8_t { kWoken, kTimedOut, kSignal };

// Sleeps while `word` holds `expected`, at most until `deadline`. kWoken may be spurious; kSignal: a signal
// handler ran.
inline FutexWake futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
                            Deadline deadline) {
    timespec until{};
    const timespec* timeout = nullptr;
    if (!deadline.is_never()) {
        if (deadline.is_now()) return FutexWake::kTimedOut;
        // steady_clock is CLOCK_MONOTONIC, which is what FUTEX_WAIT_BITSET measures absolute times by.
        const auto since = deadline.time().time_since_epoch();
        const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since);
        until.tv_sec = static_cast<time_t>(seconds.count());
        until.tv_nsec = static_cast<long>(std::chrono::nanoseconds(since - seconds).count());
        timeout = &until;
    }
    const long result = syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, expected, timeout,
                                nullptr, FUTEX_BITSET_MATCH_ANY);
    if (result == -1 && errno == ETIMEDOUT) return FutexWake::kTimedOut;
    if (result == -1 && errno == EINTR) return FutexWake::kSignal;
    return FutexWake::kWoken;
}

// Wakes at most one sleeper. The word may be gone by now: the kernel only compares addresses.
inline void futex_wake_one(const std::atomic<std::uint32_t>& word) {
    syscall(SYS_futex, &word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, nullptr, nullptr, 0);
}

}  // namespace syncyte
