#include "base/lock.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/cpu.h"
#include "base/futex.h"

namespace syncyte {

void Lock::lock_contended() noexcept {
    // One look after 0.2 us, in case the holder is just leaving. Then ever rarer ones: each look takes the
    // cache line away from the holder, and who is left alone does dozens of sections in the time that a few
    // hand-overs of the line between cores take. Who has had no luck by then naps between looks, and leaves
    // its core to those who get on. Measured with four putters and four getters on four cores. Sleeping until
    // somebody wakes it is for holders that were put off their core.
    constexpr int kFirst = 20;
    constexpr int kSecond = 400;
    constexpr int kLooks = 4;
    constexpr int kNaps = 20;
    constexpr std::chrono::microseconds kNap{50};
    int pauses = kFirst;
    for (int i = 0; i < kLooks; ++i) {
        for (int j = 0; j < pauses; ++j) cpu_relax();
        if (state_.load(std::memory_order_relaxed) == 0 && try_lock()) return;
        pauses = std::max(2 * pauses, kSecond);
    }
    for (int i = 0; i < kNaps; ++i) {
        std::this_thread::sleep_for(kNap);
        if (state_.load(std::memory_order_relaxed) == 0 && try_lock()) return;
    }
    while (state_.exchange(2, std::memory_order_acquire) != 0) futex_wait(state_, 2, Deadline::never());
}

void Lock::wake_one() noexcept { futex_wake_one(state_); }

}  // namespace syncyte
