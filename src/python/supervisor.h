// Ends tasks whose time is up, or that were cancelled while they ran.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/ref.h"
#include "channel/channel.h"
#include "python/pool.h"
#include "python/task.h"

namespace syncyte::python {

class Crew;

// One per crew; its thread starts with the first task that has a limit, or is cancelled while it runs.
//
// When a task's time comes, its future ends at once, and its worker is interrupted: an exception at the next
// bytecode. A worker that still runs the task after kPatience is stuck in a C call: another takes its place
// in the pool, and it comes home when the call ends. Any thread may call anything.
class Supervisor : public RefCounted {
  public:
    static constexpr double kPatienceSeconds = 0.1;

    // `crew` owns this supervisor, and stops it before it goes.
    explicit Supervisor(Crew& crew);

    // Joins the thread, call it detached. Orders given afterwards are void.
    void stop();

    // At `when`, unless it is over, the task ends with kTimedOut and its worker is interrupted.
    void limit(Ref<Task> task, Ref<Pool> pool, Clock::time_point when);

    // The task ended while its worker still runs it: that is interrupted now.
    void interrupt(Ref<Task> task, Ref<Pool> pool);

    // Looks whether the pool's workers wait for jobs that wait for a worker, every kLookSeconds, for as long
    // as some may.
    static constexpr double kLookSeconds = 0.02;
    void watch(Ref<Pool> pool);

  private:
    enum class Step : std::uint8_t { kLimit, kInterrupt, kReplace, kLook };
    struct Order {
        Clock::time_point when;
        Step step = Step::kLimit;
        Ref<Task> task;
        Ref<Pool> pool;
    };

    // An OS thread that interrupts one worker: it may have to wait for that interpreter's lock.
    struct Interrupter {
        std::thread thread;
        std::shared_ptr<std::atomic<bool>> done;
    };

    void give(Order order);
    void serve();
    void carry_out(Order order);
    void keep(Order order);
    void keep_for(Order order, double seconds);
    void interrupt_now(const Ref<Task>& task);

    const Ref<Channel<Order>> orders_;
    Crew& crew_;
    std::vector<Order> waiting_;  // a heap, the earliest first; this and the next two: the thread's own
    std::size_t crowd_ = 0;       // so many orders are looked through
    std::vector<Interrupter> interrupters_;
    std::mutex mutex_;  // guards the next two
    std::thread thread_;
    bool stopped_ = false;
};

}  // namespace syncyte::python
