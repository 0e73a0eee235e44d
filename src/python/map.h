// One call of Executor.map: many small calls of one function, claimed by workers in runs.
#pragma once

#include <Python.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/ref.h"
#include "python/pool.h"
#include "python/sleepers.h"
#include "python/task.h"

namespace syncyte::python {

// Workers claim the next few items, as many as they finish in a fraction of a millisecond, so that a run of
// trivial calls costs little each and a long one still reaches every worker. Results come out in order.
//
// Invariants. An index is claimed by one worker, by next_. items_[i] is written by that worker, then
// states_[i] says so (release); only the consumer reads it after that, and empties it. The consumer writes
// wanted_, then looks at states_; a worker writes states_, then looks at wanted_: both with a full fence
// between, so that one of them sees the other and nobody sleeps for ever.
class Map : public RefCounted {
  public:
    enum class State : std::uint8_t { kOpen, kReturned, kFailed };

    // `chunk` > 0: how many items a worker claims at a time; 0: as many as are worth it.
    Map(Ref<Function> function, std::vector<Value> items, std::size_t chunk, int workers);

    // Puts as many runners as are useful into the queue of the pool, `most` at most. kClosed; kTimedOut,
    // kInterrupted: the queue was full until then, and nothing was put.
    Result<void> start(const Ref<Pool>& pool, std::size_t most, Deadline deadline, JobQueue::Room room);

    // A job that runs items until `index` is claimed, for who waits for that; see Worker::help.
    Ref<Job> helper(const Ref<Pool>& pool, std::size_t index);

    // Items not claimed by now are never run.
    void stop(const Error& reason);

    // The consumer's side: one thread at a time, detached. Until item `index` is over. kTimedOut,
    // kInterrupted; kCancelled, kClosed: it never will be run.
    Result<void> wait(std::size_t index, Deadline deadline);
    [[nodiscard]] State state(std::size_t index) const {
        return states_[index].load(std::memory_order_acquire);
    }
    Value take(std::size_t index) { return std::exchange(items_[index], Value{}); }
    // Of a failed item.
    TaskOutcome failure(std::size_t index);

    [[nodiscard]] std::size_t size() const { return items_.size(); }
    // Seconds that one item took lately; 0 before any is over.
    [[nodiscard]] double cost() const { return cost_.load(std::memory_order_relaxed); }

  private:
    class Runner;

    void work(Desk& desk, const Ref<Pool>& pool, std::size_t wanted);
    std::size_t next_chunk(std::size_t chunk, double each, std::size_t rest) const;
    void run_one(Desk& desk, PyObject* callable, std::size_t index);
    void end_runner();
    void publish(std::size_t first, std::size_t last);
    [[nodiscard]] bool lost(std::size_t index) const;

    const Ref<Function> function_;
    const std::size_t chunk_;
    const int workers_;
    std::vector<Value> items_;  // arguments, later results
    const std::unique_ptr<std::atomic<State>[]> states_;
    std::atomic<std::size_t> next_{0};
    std::atomic<std::size_t> end_;  // claims at or beyond it are void
    std::atomic<std::size_t> wanted_;
    std::atomic<double> cost_{0};
    std::mutex mutex_;
    int runners_ = 0;
    Error reason_{ErrorCode::kCancelled};
    std::vector<std::pair<std::size_t, TaskOutcome>> failures_;
    Sleepers consumer_;
};

}  // namespace syncyte::python
