#include "base/lock.h"

#include "base/cpu.h"
#include "base/futex.h"

namespace syncyte {

void Lock::lock_contended() noexcept {
    constexpr int kSpins = 40;
    for (int i = 0; i < kSpins; ++i) {
        cpu_relax();
        if (state_.load(std::memory_order_relaxed) == 0 && try_lock()) return;
    }
    while (state_.exchange(2, std::memory_order_acquire) != 0) futex_wait(state_, 2, Deadline::never());
}

void Lock::wake_one() noexcept { futex_wake_one(state_); }

}  // namespace syncyte
