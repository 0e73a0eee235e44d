#include "python/job_queue.h"

#include <utility>

namespace syncyte::python {

Result<void> JobQueue::put(Ref<Job>&& job, int priority, Deadline deadline) {
    std::unique_lock lock(mutex_);
    const Result<void> room = wait_until(putters_, lock, deadline, [this] {
        return closed_ || seats_ != nullptr || capacity_ == 0 || size_ < capacity_;
    });
    if (!room) return room;
    if (closed_) return std::unexpected(ErrorCode::kClosed);
    if (Seat* seat = seats_; seat != nullptr) {
        seats_ = seat->next;
        seat->job = std::move(job);
        lock.unlock();
        seat->handoff.fire();
        return {};
    }
    (priority == 0 ? jobs_ : other_priorities_[priority]).push_back(std::move(job));
    ++size_;
    return {};
}

Result<void> JobQueue::put_own(Ref<Job>&& job, int place) {
    std::unique_lock lock(mutex_);
    if (closed_) return std::unexpected(ErrorCode::kClosed);
    for (Seat** link = &seats_; *link != nullptr; link = &(*link)->next) {
        if (Seat* seat = *link; seat->place == place) {
            *link = seat->next;
            seat->job = std::move(job);
            lock.unlock();
            seat->handoff.fire();
            return {};
        }
    }
    own_[static_cast<std::size_t>(place)].push_back(std::move(job));
    return {};
}

// With the mutex held; null when there is nothing.
Ref<Job> JobQueue::next_job(int place) {
    std::deque<Ref<Job>>& own = own_[static_cast<std::size_t>(place)];
    if (!own.empty()) {
        Ref<Job> job = std::move(own.front());
        own.pop_front();
        return job;
    }
    if (size_ == 0) return nullptr;
    const auto other = other_priorities_.begin();
    const bool others = other != other_priorities_.end() && (other->first > 0 || jobs_.empty());
    std::deque<Ref<Job>>& jobs = others ? other->second : jobs_;
    Ref<Job> job = std::move(jobs.front());
    jobs.pop_front();
    if (others && jobs.empty()) other_priorities_.erase(other);
    if (size_-- == capacity_) putters_.wake_all();
    return job;
}

Result<Ref<Job>> JobQueue::try_take(int place) {
    const std::lock_guard lock(mutex_);
    if (Ref<Job> job = next_job(place)) return job;
    return std::unexpected(closed_ ? ErrorCode::kClosed : ErrorCode::kEmpty);
}

Result<Ref<Job>> JobQueue::take(int place) {
    std::unique_lock lock(mutex_);
    if (Ref<Job> job = next_job(place)) return job;
    if (closed_) return std::unexpected(ErrorCode::kClosed);
    Seat seat{.place = place, .handoff = {}, .next = seats_};
    seats_ = &seat;
    if (capacity_ != 0) putters_.wake_all();
    lock.unlock();
    // An interruption is meant for a job that is over by now.
    while (Parker::of_this_thread().wait(seat.handoff, Deadline::never()) != Wake::kUnparked) {
    }
    if (seat.job) return std::move(seat.job);
    return std::unexpected(ErrorCode::kClosed);
}

void JobQueue::close() {
    std::unique_lock lock(mutex_);
    closed_ = true;
    putters_.wake_all();
    Seat* seat = std::exchange(seats_, nullptr);
    lock.unlock();
    while (seat != nullptr) {
        Seat* next = seat->next;  // the seat is gone once its worker is told
        seat->handoff.fire();
        seat = next;
    }
}

std::vector<Ref<Job>> JobQueue::drain() {
    std::vector<Ref<Job>> drained;
    const std::lock_guard lock(mutex_);
    for (std::size_t place = 0; place < own_.size(); ++place) {
        while (Ref<Job> job = next_job(static_cast<int>(place))) drained.push_back(std::move(job));
    }
    return drained;
}

std::size_t JobQueue::size() const {
    const std::lock_guard lock(mutex_);
    return size_;
}

}  // namespace syncyte::python
