// The queue of a pool: what waits for a worker, and the workers that wait for work.
#pragma once

#include <cstddef>
#include <cstdint>
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
    enum class Room : std::uint8_t {
        kNeeded,   // put() waits while the queue is full
        kIgnored,  // for who must not wait: a worker whose own task puts a job
    };

    // `capacity` of jobs that wait; 0: any number. There are no places before set_places().
    explicit JobQueue(std::size_t capacity) : capacity_(capacity) {}

    // From now on there are `count` places, and those beyond are given up: their workers get kClosed once
    // what they do is over. Returns the places that have no worker; whoever calls this must find them one.
    std::vector<int> set_places(int count);

    // kClosed; kTimedOut, kInterrupted: full until then. The job is moved from only on success.
    Result<void> put(Ref<Job>&& job, int priority, Deadline deadline, Room room = Room::kNeeded);

    // For the worker at `place` alone, before anything else; without regard to the capacity. kClosed, also
    // when the place has no worker.
    Result<void> put_own(Ref<Job>&& job, int place);

    // Takes a job out that somebody ran already, if it is quickly found.
    void withdraw(const Job& job);

    // The next job for the worker at `place`. kEmpty; kClosed: the worker must leave, its place is vacant.
    Result<Ref<Job>> try_take(int place);
    // The next of those that are for the worker at `place` alone; null: none.
    Ref<Job> try_take_own(int place);
    // Blocks instead of kEmpty.
    Result<Ref<Job>> take(int place);

    void close();
    // All that waits is taken out.
    std::vector<Ref<Job>> drain();
    [[nodiscard]] std::size_t size() const;
    // Jobs wait, and no worker is on its way to them.
    [[nodiscard]] bool backed_up() const;

  private:
    struct Place {
        std::deque<Ref<Job>> own;
        bool staffed = false;
    };

    // A waiting worker, on its own stack.
    struct Seat {
        int place;
        Ref<Job> job = nullptr;
        Handoff handoff;
        Seat* next = nullptr;
    };

    Ref<Job> next_own(int place);
    Ref<Job> next_job(int place);
    bool vacate(int place);
    static void wake(Seat* seats);

    const std::size_t capacity_;
    mutable std::mutex mutex_;
    std::deque<Ref<Job>> jobs_;                                             // of priority 0
    std::map<int, std::deque<Ref<Job>>, std::greater<>> other_priorities_;  // no entry is empty
    std::vector<Place> places_;  // also those given up, while their workers are there
    int count_ = 0;              // places in use
    std::size_t size_ = 0;       // of all but the places' own
    Seat* seats_ = nullptr;      // the last to come first
    bool closed_ = false;
    Sleepers putters_;
};

}  // namespace syncyte::python
