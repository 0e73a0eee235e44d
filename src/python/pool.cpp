#include "python/pool.h"

#include <utility>

#include "python/notifier.h"
#include "python/supervisor.h"

namespace syncyte::python {

Pool::Pool(PoolOptions options, Ref<Notifier> notifier, Ref<Supervisor> supervisor)
    : options_(std::move(options)),
      id_(next_id()),
      notifier_(std::move(notifier)),
      supervisor_(std::move(supervisor)),
      jobs_(options_.max_pending) {}

Pool::~Pool() = default;

std::vector<int> Pool::resize(int size) {
    const std::lock_guard lock(mutex_);
    size_.store(size, std::memory_order_relaxed);
    return set_places();
}

std::vector<int> Pool::set_spares(int spares) {
    const std::lock_guard lock(mutex_);
    spares_.store(spares, std::memory_order_relaxed);
    return set_places();
}

// With the mutex held.
std::vector<int> Pool::set_places() {
    if (closed_ && present_ == 0) return {};
    const int count = size() + spares();
    std::vector<int> vacant = jobs_.set_places(count);
    while (records_.size() < static_cast<std::size_t>(count)) {
        records_.push_back(std::make_unique<WorkerRecord>());
    }
    for (const int place : vacant) {
        WorkerRecord& record = *records_[static_cast<std::size_t>(place)];
        record.state.store(WorkerState::kStarting);
        ++record.workers;
        ++starting_;
        if (present_++ == 0) pools_at_work().fetch_add(1);
    }
    return vacant;
}

void Pool::replaced(int place) {
    WorkerRecord& record = this->record(place);
    const std::lock_guard lock(mutex_);
    record.replacements.fetch_add(1, std::memory_order_relaxed);
    record.state.store(WorkerState::kStarting);
    ++starting_;
}

Result<void> Pool::submit(Ref<Job>&& job, int priority, Deadline deadline, JobQueue::Room room) {
    return jobs_.put(std::move(job), priority, deadline, room);
}

Result<void> Pool::submit_to(int place, Ref<Job>&& job) { return jobs_.put_own(std::move(job), place); }

void Pool::close() {
    jobs_.close();
    Value spent;  // goes after the lock
    const std::lock_guard lock(mutex_);
    closed_ = true;
    spent = spent_setup();
    waiting_.wake_all();
}

// With the mutex held. What the set-up holds (a model, say) goes with the last worker, not with the pool's
// object; the last one may have seen the queue's end before the pool was marked as closed.
Value Pool::spent_setup() {
    return closed_ && present_ == 0 ? std::exchange(options_.setup, Value()) : Value();
}

void Pool::abandon_waiting(const Error& reason) {
    dropping_.store(true, std::memory_order_relaxed);
    for (const Ref<Job>& job : jobs_.drain()) job->abandon(reason);
}

void Pool::fail(TaskOutcome failure) {
    {
        const std::lock_guard lock(mutex_);
        if (failure_) return;
        failure_ = std::make_unique<const TaskOutcome>(std::move(failure));
        failed_.store(failure_.get(), std::memory_order_release);
    }
    close();
    notifier_->post({.kind = Event::Kind::kPoolFailed, .id = id_});
}

void Pool::ready(int place) {
    WorkerRecord& record = this->record(place);
    const std::lock_guard lock(mutex_);
    record.state.store(WorkerState::kIdle);
    --starting_;
    waiting_.wake_all();
}

void Pool::left(int place, Leaver leaver) {
    WorkerRecord& record = this->record(place);
    Value spent;  // goes after the lock
    const std::lock_guard lock(mutex_);
    if (leaver == Leaver::kNeverReady) --starting_;
    // A place that was given up and wanted again may have a new worker already.
    if (--record.workers == 0) record.state.store(WorkerState::kGone);
    if (--present_ == 0) pools_at_work().fetch_sub(1);
    spent = spent_setup();
    waiting_.wake_all();
}

Result<void> Pool::wait_ready(Deadline deadline) {
    std::unique_lock lock(mutex_);
    return wait_until(waiting_, lock, deadline, [this] { return starting_ == 0 || failure_; });
}

Result<void> Pool::wait_left(Deadline deadline) {
    std::unique_lock lock(mutex_);
    return wait_until(waiting_, lock, deadline, [this] { return closed_ && present_ == 0; });
}

std::size_t Pool::places() const {
    const std::lock_guard lock(mutex_);
    return records_.size();
}

WorkerRecord& Pool::record(int place) {
    const std::lock_guard lock(mutex_);
    return *records_[static_cast<std::size_t>(place)];
}

}  // namespace syncyte::python
