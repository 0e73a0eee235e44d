#include "base/parking.h"

#include <sched.h>

#include <algorithm>
#include <mutex>

#include "base/cpu.h"
#include "base/futex.h"
#include "base/lock.h"

namespace syncyte {

namespace {

constexpr std::chrono::nanoseconds kDefaultSpin = std::chrono::microseconds(20);
// A spinner that stood still for so long was put off its core: somebody else wants it.
constexpr std::chrono::nanoseconds kPreempted = std::chrono::microseconds(100);
// For so long nobody spins after that.
constexpr std::chrono::nanoseconds kBackOff = std::chrono::milliseconds(2);

// The process-wide account of spinners. Relaxed throughout: the numbers only decide whether it pays to
// spin, never whether a wake-up is seen.
struct alignas(64) SpinAccount {
    std::atomic<int> spinners{0};
    std::atomic<std::int64_t> resume_at{INT64_MIN};
};

constinit SpinAccount account;

// How many threads may spin now: one for each core that would otherwise idle, and never all of them, since
// whoever is to end the wait needs a core.
int spinners_allowed(int spinners) noexcept {
    const int usable = usable_cores();
    const int busy = std::max(running_threads() - spinners, 1);
    return std::min(online_cores() - busy, usable - 1);
}

// One thread's turn at spinning, counted while it lasts.
class SpinTurn {
  public:
    SpinTurn() noexcept { account.spinners.fetch_add(1, std::memory_order_relaxed); }
    ~SpinTurn() { account.spinners.fetch_sub(1, std::memory_order_relaxed); }
    SpinTurn(const SpinTurn&) = delete;
    SpinTurn& operator=(const SpinTurn&) = delete;

    [[nodiscard]] static bool allowed(Clock::time_point now) noexcept {
        if (now.time_since_epoch().count() < account.resume_at.load(std::memory_order_relaxed)) return false;
        const int spinners = account.spinners.load(std::memory_order_relaxed);
        return spinners <= spinners_allowed(spinners);
    }
};

// Spins until done() or until spinning no longer pays. True: done.
template <class Done>
bool spin(Done done, Deadline deadline) {
    const std::chrono::nanoseconds limit(detail::spin_limit.load(std::memory_order_relaxed));
    if (limit.count() <= 0) return false;
    const SpinTurn turn;
    Clock::time_point last = Clock::now();
    const Clock::time_point end = std::min(last + limit, deadline.time());
    while (last < end && SpinTurn::allowed(last)) {
        if (look(done)) return true;
        const Clock::time_point now = Clock::now();
        if (now - last > kPreempted) {
            account.resume_at.store((now + kBackOff).time_since_epoch().count(), std::memory_order_relaxed);
            break;
        }
        last = now;
    }
    return done();
}

}  // namespace

constinit std::atomic<std::int64_t> detail::spin_limit{kDefaultSpin.count()};

// Parkers of ended threads wait here for the next thread.
class ParkerPool {
  public:
    static Parker* take() {
        const std::lock_guard guard(pool().lock_);
        Parker* parker = pool().free_;
        if (parker == nullptr) return new Parker;
        pool().free_ = parker->next_free_;
        parker->token_.store(false, std::memory_order_relaxed);
        parker->interrupted_.store(false, std::memory_order_relaxed);
        return parker;
    }

    static void give_back(Parker* parker) noexcept {
        const std::lock_guard guard(pool().lock_);
        parker->next_free_ = pool().free_;
        pool().free_ = parker;
    }

  private:
    // Trivially destroyed: threads may end after the process began to.
    static ParkerPool& pool() {
        constinit static ParkerPool the_pool;
        return the_pool;
    }

    Lock lock_;
    Parker* free_ = nullptr;
};

Parker& Parker::of_this_thread() {
    struct Loan {
        Parker* parker = ParkerPool::take();
        ~Loan() { ParkerPool::give_back(parker); }
    };
    thread_local Loan loan;
    return *loan.parker;
}

template <class Done>
Wake Parker::sleep_until(Done done, Deadline deadline) {
    if (done()) return Wake::kUnparked;
    if (!deadline.is_now()) {
        if (spin(done, deadline)) return Wake::kUnparked;
        // Who is to end the wait may be waiting for this core. Then both save a sleep and a wake-up.
        sched_yield();
        if (done()) return Wake::kUnparked;
    }
    Wake wake = Wake::kUnparked;
    while (true) {
        asleep_.store(1, std::memory_order_seq_cst);
        if (done()) break;
        if (interrupted_.load(std::memory_order_seq_cst) && interrupted_.exchange(false)) {
            wake = Wake::kInterrupted;
            break;
        }
        const FutexWake woken = futex_wait(asleep_, 1, deadline);
        if (done()) break;
        if (woken == FutexWake::kWoken) continue;
        wake = woken == FutexWake::kTimedOut ? Wake::kTimedOut : Wake::kInterrupted;
        break;
    }
    asleep_.store(0, std::memory_order_relaxed);
    return wake;
}

Wake Parker::wait(const Handoff& handoff, Deadline deadline) {
    return sleep_until([&handoff] { return handoff.done_.load(std::memory_order_seq_cst); }, deadline);
}

Wake Parker::park(Deadline deadline) {
    const Wake wake = sleep_until([this] { return token_.load(std::memory_order_seq_cst); }, deadline);
    // A token that arrives together with a timeout or an interrupt is kept for the next park().
    if (wake == Wake::kUnparked) token_.exchange(false, std::memory_order_acquire);
    return wake;
}

void Parker::unpark() noexcept {
    token_.store(true, std::memory_order_seq_cst);
    wake_if_asleep();
}

void Parker::interrupt() noexcept {
    interrupted_.store(true, std::memory_order_seq_cst);
    wake_if_asleep();
}

void Parker::wake_if_asleep() noexcept {
    if (asleep_.load(std::memory_order_seq_cst) == 0) return;
    if (asleep_.exchange(0, std::memory_order_seq_cst) == 1) futex_wake_one(asleep_);
}

std::chrono::nanoseconds spin_time() noexcept {
    return std::chrono::nanoseconds(detail::spin_limit.load(std::memory_order_relaxed));
}

void set_spin_time(std::chrono::nanoseconds limit) noexcept {
    detail::spin_limit.store(limit.count(), std::memory_order_relaxed);
}

int spinning_threads() noexcept { return account.spinners.load(std::memory_order_relaxed); }

}  // namespace syncyte
