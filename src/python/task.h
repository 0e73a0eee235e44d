// What travels through a pool's queue: jobs, and the commonest of them, one call with one outcome.
//
// A job is made in one interpreter, run in another and may die on any thread: it holds no PyObject.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>

#include "base/clock.h"
#include "base/error.h"
#include "base/ref.h"
#include "python/sleepers.h"
#include "value/value.h"

namespace syncyte::python {

class Desk;      // a worker's own Python objects, see python/desk.h
class Notifier;  // tells the submitting interpreter, see python/notifier.h

// A number that no other task, function or pool of this process has.
std::uint64_t next_id();

// Something a worker can do. Exactly one of run() and abandon() is called, once.
class Job : public RefCounted {
  public:
    // On the worker's thread, attached to its interpreter. Leaves no Python error set.
    virtual void run(Desk& desk) = 0;

    // Never will be run; `reason` is for the waiting caller. Any thread, attached or not.
    virtual void abandon(const Error& reason) = 0;
};

// A callable as bytes that syncyte._travel wrote. Workers keep what they loaded under `id`.
struct Function : RefCounted {
    Function(std::string encoded, bool keep);

    const std::uint64_t id;  // unique in the process
    const std::string bytes;
    const bool keep;  // false: values it carries may differ next time, so nobody should remember it
};

// How an exception looked in the interpreter that raised it.
struct Failure {
    Value exception;  // the exception itself, where it can travel; None where it cannot
    Value display;    // what syncyte._travel.describe returned: names, message, formatted traceback
};

enum class Ending : std::uint8_t {
    kReturned,   // value is the result
    kRaised,     // failure says what
    kCancelled,  // before it ran, or while it ran
    kTimedOut,   // interrupted at its deadline
    kBroken,     // the pool cannot run it; message says why
};

struct TaskOutcome {
    Ending ending = Ending::kReturned;
    Value value;
    Failure failure;
    std::string message;
};

// One call and its outcome.
//
// Life: pending -> running -> finished, or pending -> finished (cancelled, abandoned). finish() is won by
// one caller; the outcome is written before the state says finished and never changes after, so readers
// that saw finished (acquire) read it without a lock. `watched` and the waiters' list change under mutex_.
class Task : public Job {
  public:
    // `timeout`: seconds it may run; 0: as long as it likes. `place`: of the only worker who may run it; -1:
    // anybody.
    Task(Ref<Function> function, Value args, Value kwargs, double timeout = 0, int place = -1);

    void run(Desk& desk) override;
    void abandon(const Error& reason) override;

    // Ends a task that has not started; false when it runs or is over.
    bool cancel();

    // Ends a task, running or not; false when it is over already. What its worker still brings is dropped.
    bool finish(TaskOutcome outcome);
    bool time_out();

    // Blocks until finished. kTimedOut, kInterrupted. Any thread, detached from its interpreter.
    Result<void> wait(Deadline deadline);

    // From now on `notifier` is told when the task ends; false if it ended already. At most one notifier.
    bool watch(Ref<Notifier> notifier);

    [[nodiscard]] bool finished() const { return state_.load(std::memory_order_acquire) == State::kFinished; }
    [[nodiscard]] bool running() const { return state_.load(std::memory_order_acquire) == State::kRunning; }

    // Valid once finished.
    [[nodiscard]] const TaskOutcome& outcome() const { return outcome_; }

    // How many Python objects stand for the task, in all interpreters; whether one was ever to be sent to
    // another.
    void add_future(int more) { futures_.fetch_add(more, std::memory_order_relaxed); }
    [[nodiscard]] int futures() const { return futures_.load(std::memory_order_relaxed); }
    void show() { shown_.store(true, std::memory_order_relaxed); }
    [[nodiscard]] bool shown() const { return shown_.load(std::memory_order_relaxed); }

    [[nodiscard]] std::uint64_t id() const { return id_; }
    [[nodiscard]] int place() const { return place_; }
    // Which worker of the pool, and which interpreter, ran it; -1 before that.
    [[nodiscard]] int worker() const { return worker_.load(std::memory_order_relaxed); }
    [[nodiscard]] std::int64_t interpreter() const { return interpreter_.load(std::memory_order_relaxed); }

  private:
    enum class State : std::uint8_t { kPending, kRunning, kFinished };

    bool start(Desk& desk);
    bool end_if_pending(TaskOutcome outcome);
    void publish(TaskOutcome outcome);  // with the mutex held

    const std::uint64_t id_;
    const double timeout_;
    const int place_;
    std::atomic<State> state_{State::kPending};
    std::atomic<int> futures_{0};
    std::atomic<bool> shown_{false};
    std::atomic<int> worker_{-1};
    std::atomic<std::int64_t> interpreter_{-1};
    Ref<Function> function_;
    Value args_;
    Value kwargs_;
    TaskOutcome outcome_;
    std::mutex mutex_;
    Sleepers waiters_;
    Ref<Notifier> notifier_;
};

}  // namespace syncyte::python
