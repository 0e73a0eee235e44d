// A pool: the queue its workers take jobs from, and what is known of each of them.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/ref.h"
#include "python/forks.h"
#include "python/job_queue.h"
#include "python/sleepers.h"
#include "python/task.h"

namespace syncyte::python {

class Supervisor;
struct MemoryMeter;

enum class WorkerState : std::uint8_t { kStarting, kIdle, kBusy, kGone };

// Written by one worker, read by anybody.
struct WorkerRecord {
    std::atomic<WorkerState> state{WorkerState::kGone};
    std::atomic<std::int64_t> interpreter{-1};
    std::atomic<const MemoryMeter*> meter{nullptr};  // of that interpreter
    std::atomic<std::uint64_t> tasks{0};
    std::atomic<std::uint64_t> replacements{0};  // of workers that were stuck in a call
    std::atomic<std::uint64_t> recycles{0};
    std::atomic<std::int64_t> busy_ns{0};
    std::atomic<std::int64_t> busy_since_ns{0};  // of Clock; 0 while idle
    int workers = 0;  // at this place, one on its way out included; guarded by the pool
};

struct PoolOptions {
    std::size_t max_pending = 0;      // tasks; 0: any number
    std::uint64_t recycle_after = 0;  // tasks of one worker; 0: never
    std::int64_t memory_limit = 0;    // bytes of one worker's interpreter; 0: none
    std::string name;
    Value setup;  // what syncyte._worker.enter gets, in each worker
};

// Shared by the submitting interpreters and the workers; the last one to let go destroys it, on any thread.
//
// Workers sit at places, numbered from 0. There are as many as the pool's size, and while tasks wait for
// tasks of their own pool a few more, the spares.
class Pool : public RefCounted {
  public:
    // Most workers beyond the pool's size.
    static constexpr int kMostSpares = 128;

    ~Pool() override;

    // Has no places before resize().
    Pool(PoolOptions options, Ref<Notifier> notifier, Ref<Supervisor> supervisor);

    // Makes it that many workers, once those that must go have done what they do. Returns the vacant places:
    // the caller staffs each of them, or says left().
    std::vector<int> resize(int size);
    std::vector<int> set_spares(int spares);
    // Another worker takes the place of one that is stuck.
    void replaced(int place);

    // kClosed after close(); kTimedOut, kInterrupted: the queue was full until then, the job is untouched.
    // Higher `priority` first, usually 0.
    Result<void> submit(Ref<Job>&& job, int priority, Deadline deadline,
                        JobQueue::Room room = JobQueue::Room::kNeeded);
    // For the worker at `place` alone. kClosed, also when nobody works there.
    Result<void> submit_to(int place, Ref<Job>&& job);
    // Somebody ran the job without being told to.
    void withdraw(const Job& job) { jobs_.withdraw(job); }

    // A task put a job into the queue: if it waits for that, it may need a spare. True to the first one who
    // says so; the supervisor looks after the pool from then on, until it says unwatched().
    bool watch() { return !watched_.exchange(true); }
    void unwatched() { watched_.store(false); }
    [[nodiscard]] bool backed_up() const { return jobs_.backed_up(); }

    // No more jobs; the workers finish those that wait, then leave.
    void close();
    // Ends every job that waits, with `reason`, and a map in progress at its next claim. For pools that end.
    void abandon_waiting(const Error& reason);
    [[nodiscard]] bool dropping() const { return dropping_.load(std::memory_order_relaxed); }
    // The first failure of a worker: nothing can run any more. Later ones are ignored.
    void fail(TaskOutcome failure);

    // Until each worker is ready for its first job, or has failed; until each has left.
    Result<void> wait_ready(Deadline deadline);
    Result<void> wait_left(Deadline deadline);

    // A worker's view.
    Result<Ref<Job>> try_take(int place) { return jobs_.try_take(place); }
    Result<Ref<Job>> take(int place) { return jobs_.take(place); }
    // Of what is for that worker alone; null: nothing.
    Ref<Job> try_take_own(int place) { return jobs_.try_take_own(place); }
    enum class Leaver : std::uint8_t { kNeverReady, kReady };
    void ready(int place);
    void left(int place, Leaver leaver);

    [[nodiscard]] const Ref<Supervisor>& supervisor() const { return supervisor_; }
    [[nodiscard]] int size() const { return size_.load(std::memory_order_relaxed); }
    [[nodiscard]] int spares() const { return spares_.load(std::memory_order_relaxed); }
    [[nodiscard]] std::uint64_t id() const { return id_; }
    // Whether it was opened by a process that this one was forked from: its locks may be held for ever by
    // threads that are not here, so nothing else may be asked of it.
    [[nodiscard]] bool foreign() const { return generation_ != fork_generation(); }
    [[nodiscard]] const PoolOptions& options() const { return options_; }
    [[nodiscard]] std::size_t pending() const { return jobs_.size(); }
    [[nodiscard]] std::size_t places() const;
    WorkerRecord& record(int place);
    // Null until fail(); constant from then on.
    [[nodiscard]] const TaskOutcome* failure() const { return failed_.load(std::memory_order_acquire); }

  private:
    std::vector<int> set_places();
    Value spent_setup();

    PoolOptions options_;  // constant until the last worker has left
    const std::uint64_t id_;
    const std::uint32_t generation_ = fork_generation();
    const Ref<Notifier> notifier_;
    const Ref<Supervisor> supervisor_;
    JobQueue jobs_;
    std::atomic<const TaskOutcome*> failed_{nullptr};
    std::atomic<bool> dropping_{false};
    std::atomic<bool> watched_{false};
    std::atomic<int> size_{0};    // this and the next are written under the mutex
    std::atomic<int> spares_{0};  // workers beyond the size
    mutable std::mutex mutex_;
    std::vector<std::unique_ptr<WorkerRecord>> records_;  // by place; grows only
    int starting_ = 0;
    int present_ = 0;
    bool closed_ = false;
    std::unique_ptr<const TaskOutcome> failure_;
    Sleepers waiting_;
};

}  // namespace syncyte::python
