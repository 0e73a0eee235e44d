#include "base/lock.h"

#include <algorithm>

#include "base/cpu.h"
#include "base/futex.h"

namespace syncyte {

void Lock::lock_contended() noexcept {
    // One look after 0.2 us, in case the holder is just leaving. Then ever rarer ones: each look takes the
    // cache line away from the holder, and who is left alone does dozens of sections in the time that a few
    // hand-overs of the line between cores take. Measured with four putters and four getters: twice the
    // throughput. Sleeping is for holders that were put off their core.
    constexpr int kFirst = 20;
    constexpr int kSecond = 400;
    constexpr int kLongest = 3200;  // about 32 us
    constexpr int kLooks = 6;
    int pauses = kFirst;
    for (int i = 0; i < kLooks; ++i) {
        for (int j = 0; j < pauses; ++j) cpu_relax();
        if (state_.load(std::memory_order_relaxed) == 0 && try_lock()) return;
        pauses = std::clamp(2 * pauses, kSecond, kLongest);
    }
    while (state_.exchange(2, std::memory_order_acquire) != 0) futex_wait(state_, 2, Deadline::never());
}

void Lock::wake_one() noexcept { futex_wake_one(state_); }

}  // namespace syncyte
