// A mutex of four bytes for sections of a few dozen nanoseconds.
//
// Invariants: state_ is 0 when free, 1 when held, 2 when held and somebody may sleep on it. Who found it
// taken backs off for a few milliseconds at most, then writes 2 and sleeps; who leaves a 2 behind wakes one
// sleeper, which takes the lock with a 2 since others may sleep on.
// Memory order: taking acquires, leaving releases; nothing else is published through state_.
#pragma once

#include <atomic>
#include <cstdint>

namespace syncyte {

// Any thread. Not recursive, not fair. Meets the standard's Lockable, so std::lock_guard and
// std::unique_lock work.
class Lock {
  public:
    Lock() = default;
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;

    void lock() noexcept {
        std::uint32_t free = 0;
        if (!state_.compare_exchange_strong(free, 1, std::memory_order_acquire, std::memory_order_relaxed)) {
            lock_contended();
        }
    }

    bool try_lock() noexcept {
        std::uint32_t free = 0;
        return state_.compare_exchange_strong(free, 1, std::memory_order_acquire, std::memory_order_relaxed);
    }

    void unlock() noexcept {
        if (state_.exchange(0, std::memory_order_release) == 2) wake_one();
    }

  private:
    void lock_contended() noexcept;
    void wake_one() noexcept;

    std::atomic<std::uint32_t> state_{0};
};

}  // namespace syncyte
