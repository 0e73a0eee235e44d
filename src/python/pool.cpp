#include "python/pool.h"

#include <utility>

#include "python/notifier.h"
#include "python/supervisor.h"

namespace syncyte::python {

Pool::Pool(int size, std::size_t max_pending, std::string name, Value setup, Ref<Notifier> notifier,
           Ref<Supervisor> supervisor)
    : size_(size),
      id_(next_id()),
      name_(std::move(name)),
      setup_(std::move(setup)),
      notifier_(std::move(notifier)),
      supervisor_(std::move(supervisor)),
      jobs_(max_pending, size),
      records_(std::make_unique<WorkerRecord[]>(static_cast<std::size_t>(size))) {}

Pool::~Pool() = default;

Result<void> Pool::submit(Ref<Job>&& job, int priority, Deadline deadline) {
    return jobs_.put(std::move(job), priority, deadline);
}

Result<void> Pool::submit_to(int place, Ref<Job>&& job) { return jobs_.put_own(std::move(job), place); }

void Pool::close() { jobs_.close(); }

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
    jobs_.close();
    notifier_->post({.kind = Event::Kind::kPoolFailed, .id = id_});
}

void Pool::ready() {
    const std::lock_guard lock(mutex_);
    ++ready_;
    waiting_.wake_all();
}

void Pool::left(int index) {
    record(index).state.store(WorkerState::kGone, std::memory_order_relaxed);
    const std::lock_guard lock(mutex_);
    // What the set-up holds (a model, say) goes with the last worker, not with the pool's object.
    if (++left_ >= size_) setup_ = Value();
    waiting_.wake_all();
}

Result<void> Pool::wait_ready(Deadline deadline) {
    std::unique_lock lock(mutex_);
    return wait_until(waiting_, lock, deadline, [this] { return ready_ + left_ >= size_ || failure_; });
}

Result<void> Pool::wait_left(Deadline deadline) {
    std::unique_lock lock(mutex_);
    return wait_until(waiting_, lock, deadline, [this] { return left_ >= size_; });
}

}  // namespace syncyte::python
