// How a thread waits: a brief spin while cores are idle, then sleep until somebody wakes it.
//
// Invariants. asleep_ is 1 while the owner sleeps or is about to, else 0. Only the owner writes 1; a waker
// that turns the 1 into 0 owes the futex wake. A Parker's memory is never returned to the system, only
// reused by a later thread, so a waker that comes late at worst makes somebody else look once more.
//
// Memory order. The sleeper writes asleep_ and then looks for its reason to wake (token, handoff, interrupt);
// a waker writes the reason and then looks at asleep_. Each writes one word and reads the other's, so all
// four accesses are seq_cst: at least one side sees the other's write, and no wake-up is lost. What is handed
// over is published by the reason itself: its store releases, its load acquires.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "base/clock.h"
#include "base/cpu.h"

namespace syncyte {

enum class Wake : std::uint8_t { kUnparked, kTimedOut, kInterrupted };

class Handoff;

// One per thread. park() and wait() are for the owning thread; unpark() and interrupt() for any thread, at
// any time, even after the owner has ended.
class alignas(64) Parker {
  public:
    // The calling thread's. The reference stays valid for the life of the process.
    static Parker& of_this_thread();

    // Sleeps until unpark(), the deadline, an interrupt() or a signal handler that ran on this thread
    // (both kInterrupted). An unpark() that came earlier is consumed at once; several count as one.
    Wake park(Deadline deadline);

    // The same for a handoff of this thread: kUnparked once it was fired. Leaves unpark() tokens alone.
    Wake wait(const Handoff& handoff, Deadline deadline);

    void unpark() noexcept;

    // Makes the current or else the next park() or wait() return kInterrupted, once.
    void interrupt() noexcept;

    Parker() = default;
    Parker(const Parker&) = delete;
    Parker& operator=(const Parker&) = delete;

  private:
    friend class Handoff;
    friend class ParkerPool;

    template <class Done>
    Wake sleep_until(Done done, Deadline deadline);
    void wake_if_asleep() noexcept;

    std::atomic<std::uint32_t> asleep_{0};
    std::atomic<bool> token_{false};
    std::atomic<bool> interrupted_{false};
    Parker* next_free_ = nullptr;  // guarded by the pool
};

// One event that one thread waits for and one other thread reports, once. Usually on the waiter's stack.
class Handoff {
  public:
    // For the calling thread to wait on.
    Handoff() : parker_(&Parker::of_this_thread()) {}
    Handoff(const Handoff&) = delete;
    Handoff& operator=(const Handoff&) = delete;

    // Publishes everything written before and wakes the waiter. The waiter may return, and this object be
    // gone, before fire() does.
    void fire() noexcept {
        Parker* parker = parker_;
        done_.store(true, std::memory_order_seq_cst);
        parker->wake_if_asleep();
    }

    [[nodiscard]] bool fired() const noexcept { return done_.load(std::memory_order_acquire); }

  private:
    friend class Parker;

    Parker* const parker_;
    std::atomic<bool> done_{false};
};

namespace detail {
// Nanoseconds; see spin_time().
extern std::atomic<std::int64_t> spin_limit;
}  // namespace detail

// The short first part of a wait's spin: too short to be worth asking whether a core is idle. True once
// done().
template <class Done>
bool look(Done done) {
    if (detail::spin_limit.load(std::memory_order_relaxed) <= 0) return done();
    constexpr int kLooks = 50;  // about a microsecond
    for (int i = 0; i < kLooks; ++i) {
        if (done()) return true;
        cpu_relax();
    }
    return false;
}

// How long a wait may spin before it sleeps, for the whole process; 20 us unless set. Zero: never spin.
std::chrono::nanoseconds spin_time() noexcept;
void set_spin_time(std::chrono::nanoseconds limit) noexcept;

// Threads of this process that spin in a wait right now. For statistics: stale as soon as it returns.
int spinning_threads() noexcept;

}  // namespace syncyte
