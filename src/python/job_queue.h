// The queue of a pool: what waits for a worker, and the workers that wait for work.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/parking.h"
#include "base/ref.h"
#include "python/sleepers.h"
#include "python/task.h"

namespace syncyte::python {

// Differs from a Channel in who is served: of the jobs, the one of highest priority, then the oldest; of the
// waiting workers, the one that came last, for it may still be spinning, and its caches are warm.
//
// Invariant, true whenever the mutex is free: workers wait only while there is nothing for them. So a job put
// goes straight to a waiting worker, and whoever unlinked that worker's seat owes it a handoff. Any thread
// may call anything; take() must be called detached.
class JobQueue {
  public:
    // `capacity` of jobs that wait; 0: any number. `workers`: how many places there are.
    JobQueue(std::size_t capacity, int workers)
        : capacity_(capacity), own_(static_cast<std::size_t>(workers)) {}

    // kClosed; kTimedOut, kInterrupted: full until then. The job is moved from only on success.
    Result<void> put(Ref<Job>&& job, int priority, Deadline deadline);

    // For the worker at `place` alone, before anything else; without regard to the capacity. kClosed.
    Result<void> put_own(Ref<Job>&& job, int place);

    // The next job for the worker at `place`. kEmpty, kClosed (and empty).
    Result<Ref<Job>> try_take(int place);
    // Blocks instead of kEmpty.
    Result<Ref<Job>> take(int place);

    void close();
    // All that waits is taken out.
    std::vector<Ref<Job>> drain();
    [[nodiscard]] std::size_t size() const;

  private:
    // A waiting worker, on its own stack.
    struct Seat {
        int place;
        Ref<Job> job = nullptr;
        Handoff handoff;
        Seat* next = nullptr;
    };

    Ref<Job> next_job(int place);

    const std::size_t capacity_;
    mutable std::mutex mutex_;
    std::deque<Ref<Job>> jobs_;                                             // of priority 0
    std::map<int, std::deque<Ref<Job>>, std::greater<>> other_priorities_;  // no entry is empty
    std::vector<std::deque<Ref<Job>>> own_;
    std::size_t size_ = 0;   // of all but own_
    Seat* seats_ = nullptr;  // the last to come first
    bool closed_ = false;
    Sleepers putters_;
};

}  // namespace syncyte::python
