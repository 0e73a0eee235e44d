#include "python/crew.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace syncyte::python {

bool Crew::open() const {
    const std::lock_guard lock(mutex_);
    return !dismissed_;
}

void Crew::staff(const Ref<Pool>& pool, const std::vector<int>& places) {
    const std::lock_guard lock(mutex_);
    for (const int place : places) {
        Ref<Worker> worker;
        if (idle_.empty()) {
            worker = make_ref<Worker>(Ref<Crew>::share(this), home_);
            workers_.push_back(worker);
        } else {
            worker = Ref<Worker>::share(idle_.back());
            idle_.pop_back();
        }
        worker->take({.pool = pool, .place = place});
        if (dismissed_) worker->dismiss();
    }
}

void Crew::come_home(Worker& worker) {
    const std::lock_guard lock(mutex_);
    if (!dismissed_) idle_.push_back(&worker);
}

void Crew::gone(Worker& worker) {
    const std::lock_guard lock(mutex_);
    std::erase(idle_, &worker);
    ++gone_;
    waiting_.wake_all();
}

void Crew::dismiss() {
    const std::lock_guard lock(mutex_);
    dismissed_ = true;
    idle_.clear();
    for (const Ref<Worker>& worker : workers_) worker->dismiss();
}

Result<void> Crew::wait_gone(Deadline deadline) {
    std::vector<Ref<Worker>> gone;
    {
        std::unique_lock lock(mutex_);
        const Result<void> all =
            wait_until(waiting_, lock, deadline, [this] { return gone_ == workers_.size(); });
        if (!all) return all;
        gone.swap(workers_);
        gone_ = 0;
    }
    for (const Ref<Worker>& worker : gone) worker->join();
    return {};
}

void Crew::interrupt(const Pool* pool, const Job* job) {
    std::vector<Ref<Worker>> workers;
    {
        const std::lock_guard lock(mutex_);
        workers = workers_;
    }
    for (const Ref<Worker>& worker : workers) worker->interrupt(pool, job);
}

bool Crew::replace(const Ref<Pool>& pool, const Job* job) {
    std::vector<Ref<Worker>> workers;
    {
        const std::lock_guard lock(mutex_);
        if (dismissed_) return false;
        workers = workers_;
    }
    for (const Ref<Worker>& worker : workers) {
        if (const std::optional<int> place = worker->set_aside(job)) {
            pool->replaced(*place);
            staff(pool, {*place});
            return true;
        }
    }
    return false;
}

bool Crew::even_out(const Ref<Pool>& pool) {
    std::vector<Ref<Worker>> workers;
    {
        const std::lock_guard lock(mutex_);
        workers = workers_;
    }
    int waiting = 0;
    for (const Ref<Worker>& worker : workers) {
        if (worker->waits_in_task(pool.get())) ++waiting;
    }
    const int spares = pool->spares();
    const bool backed_up = pool->backed_up();
    int wanted = std::min(waiting, spares);
    if (backed_up) wanted = std::min(waiting, Pool::kMostSpares);
    if (wanted != spares) staff(pool, pool->set_spares(wanted));
    return backed_up || wanted > 0;
}

bool Crew::runs(const Job* job) const {
    const std::lock_guard lock(mutex_);
    return std::ranges::any_of(workers_, [job](const Ref<Worker>& worker) { return worker->runs(job); });
}

std::size_t Crew::idle() const {
    const std::lock_guard lock(mutex_);
    return idle_.size();
}

}  // namespace syncyte::python
