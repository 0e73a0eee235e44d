// A pool: the queue its workers take jobs from, and what is known of each of them.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "base/clock.h"
#include "base/error.h"
#include "base/ref.h"
#include "python/job_queue.h"
#include "python/sleepers.h"
#include "python/task.h"

namespace syncyte::python {

class Supervisor;

enum class WorkerState : std::uint8_t { kStarting, kIdle, kBusy, kGone };

// Written by one worker, read by anybody.
struct WorkerRecord {
    std::atomic<WorkerState> state{WorkerState::kStarting};
    std::atomic<std::int64_t> interpreter{-1};
    std::atomic<std::uint64_t> tasks{0};
    std::atomic<std::uint64_t> replacements{0};  // of workers that were stuck in a call
    std::atomic<std::int64_t> busy_ns{0};
    std::atomic<std::int64_t> busy_since_ns{0};  // of Clock; 0 while idle
};

// Shared by the submitting interpreter and the workers; the last one to let go destroys it, on any thread.
class Pool : public RefCounted {
  public:
    ~Pool() override;

    // `max_pending` 0: unbounded. `setup`: what syncyte._worker.enter gets, in each worker.
    Pool(int size, std::size_t max_pending, std::string name, Value setup, Ref<Notifier> notifier,
         Ref<Supervisor> supervisor);

    // kClosed after close(); kTimedOut, kInterrupted: the queue was full until then, the job is untouched.
    // Higher `priority` first, usually 0.
    Result<void> submit(Ref<Job>&& job, int priority, Deadline deadline);
    // For the worker at `place` alone. kClosed.
    Result<void> submit_to(int place, Ref<Job>&& job);

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
    void ready();
    void left(int index);

    [[nodiscard]] const Ref<Supervisor>& supervisor() const { return supervisor_; }
    [[nodiscard]] int size() const { return size_; }
    [[nodiscard]] std::uint64_t id() const { return id_; }
    [[nodiscard]] const std::string& name() const { return name_; }
    // For a worker that enters.
    [[nodiscard]] const Value& setup() const { return setup_; }
    [[nodiscard]] std::size_t pending() const { return jobs_.size(); }
    WorkerRecord& record(int index) { return records_[static_cast<std::size_t>(index)]; }
    // Null until fail(); constant from then on.
    [[nodiscard]] const TaskOutcome* failure() const { return failed_.load(std::memory_order_acquire); }

  private:
    const int size_;
    const std::uint64_t id_;
    const std::string name_;
    Value setup_;  // constant until the last worker has left
    const Ref<Notifier> notifier_;
    const Ref<Supervisor> supervisor_;
    JobQueue jobs_;
    const std::unique_ptr<WorkerRecord[]> records_;
    std::atomic<const TaskOutcome*> failed_{nullptr};
    std::atomic<bool> dropping_{false};
    std::mutex mutex_;
    int ready_ = 0;
    int left_ = 0;
    std::unique_ptr<const TaskOutcome> failure_;
    Sleepers waiting_;
};

}  // namespace syncyte::python
