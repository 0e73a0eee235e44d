#include "python/job_queue.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace syncyte::python {

std::vector<int> JobQueue::set_places(int count) {
    std::vector<int> vacant;
    std::unique_lock lock(mutex_);
    count_ = count;
    if (places_.size() < static_cast<std::size_t>(count)) places_.resize(static_cast<std::size_t>(count));
    for (int place = 0; place < count; ++place) {
        if (std::exchange(places_[static_cast<std::size_t>(place)].staffed, true)) continue;
        vacant.push_back(place);
    }
    Seat* given_up = nullptr;
    for (Seat** link = &seats_; *link != nullptr;) {
        Seat* seat = *link;
        if (seat->place < count) {
            link = &seat->next;
            continue;
        }
        *link = seat->next;
        seat->next = std::exchange(given_up, seat);
    }
    lock.unlock();
    wake(given_up);
    return vacant;
}

// Tells the workers on these seats to look again; the seats are gone once they are told.
void JobQueue::wake(Seat* seats) {
    while (seats != nullptr) {
        Seat* next = seats->next;
        seats->handoff.fire();
        seats = next;
    }
}

Result<void> JobQueue::put(Ref<Job>&& job, int priority, Deadline deadline, Room room) {
    std::unique_lock lock(mutex_);
    const Result<void> found = wait_until(putters_, lock, deadline, [this, room] {
        return closed_ || seats_ != nullptr || capacity_ == 0 || size_ < capacity_ || room == Room::kIgnored;
    });
    if (!found) return found;
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
    if (closed_ || place >= count_ || !places_[static_cast<std::size_t>(place)].staffed) {
        return std::unexpected(ErrorCode::kClosed);
    }
    for (Seat** link = &seats_; *link != nullptr; link = &(*link)->next) {
        if (Seat* seat = *link; seat->place == place) {
            *link = seat->next;
            seat->job = std::move(job);
            lock.unlock();
            seat->handoff.fire();
            return {};
        }
    }
    places_[static_cast<std::size_t>(place)].own.push_back(std::move(job));
    return {};
}

void JobQueue::withdraw(const Job& job) {
    // A worker that runs what it waits for has put it lately, or waits for what comes next.
    constexpr std::ptrdiff_t kLooks = 64;
    Ref<Job> found;  // dropped after the lock
    const std::lock_guard lock(mutex_);
    const auto is_it = [&job](const Ref<Job>& other) { return other.get() == &job; };
    const auto end = jobs_.end();
    const auto last = end - std::min(kLooks, std::ssize(jobs_));
    auto at = std::find_if(last, end, is_it);
    if (at == end) {
        const auto first = jobs_.begin() + std::min(kLooks, std::ssize(jobs_));
        at = std::find_if(jobs_.begin(), first, is_it);
        if (at == first) return;
    }
    found = std::move(*at);
    jobs_.erase(at);
    if (size_-- == capacity_) putters_.wake_all();
}

Ref<Job> JobQueue::try_take_own(int place) {
    const std::lock_guard lock(mutex_);
    return next_own(place);
}

// With the mutex held; null when there is nothing.
Ref<Job> JobQueue::next_own(int place) {
    std::deque<Ref<Job>>& own = places_[static_cast<std::size_t>(place)].own;
    if (own.empty()) return nullptr;
    Ref<Job> job = std::move(own.front());
    own.pop_front();
    return job;
}

// With the mutex held; null when there is nothing.
Ref<Job> JobQueue::next_job(int place) {
    if (Ref<Job> own = next_own(place)) return own;
    if (size_ == 0 || place >= count_) return nullptr;
    const auto other = other_priorities_.begin();
    const bool others = other != other_priorities_.end() && (other->first > 0 || jobs_.empty());
    std::deque<Ref<Job>>& jobs = others ? other->second : jobs_;
    Ref<Job> job = std::move(jobs.front());
    jobs.pop_front();
    if (others && jobs.empty()) other_priorities_.erase(other);
    if (size_-- == capacity_) putters_.wake_all();
    return job;
}

// With the mutex held, when there is nothing for the worker: whether it must leave. Its place is vacant then.
bool JobQueue::vacate(int place) {
    if (!closed_ && place < count_) return false;
    places_[static_cast<std::size_t>(place)].staffed = false;
    return true;
}

Result<Ref<Job>> JobQueue::try_take(int place) {
    const std::lock_guard lock(mutex_);
    if (Ref<Job> job = next_job(place)) return job;
    return std::unexpected(vacate(place) ? ErrorCode::kClosed : ErrorCode::kEmpty);
}

Result<Ref<Job>> JobQueue::take(int place) {
    std::unique_lock lock(mutex_);
    if (Ref<Job> job = next_job(place)) return job;
    if (vacate(place)) return std::unexpected(ErrorCode::kClosed);
    Seat seat{.place = place, .handoff = {}, .next = seats_};
    seats_ = &seat;
    if (capacity_ != 0) putters_.wake_all();
    lock.unlock();
    // An interruption is meant for a job that is over by now.
    while (Parker::of_this_thread().wait(seat.handoff, Deadline::never()) != Wake::kUnparked) {
    }
    if (seat.job) return std::move(seat.job);
    return try_take(place);
}

void JobQueue::close() {
    std::unique_lock lock(mutex_);
    closed_ = true;
    putters_.wake_all();
    Seat* seat = std::exchange(seats_, nullptr);
    lock.unlock();
    wake(seat);
}

std::vector<Ref<Job>> JobQueue::drain() {
    std::vector<Ref<Job>> drained;
    const std::lock_guard lock(mutex_);
    for (Place& place : places_) {
        std::ranges::move(place.own, std::back_inserter(drained));
        place.own.clear();
    }
    std::ranges::move(jobs_, std::back_inserter(drained));
    jobs_.clear();
    for (auto& [priority, jobs] : other_priorities_) std::ranges::move(jobs, std::back_inserter(drained));
    other_priorities_.clear();
    size_ = 0;
    putters_.wake_all();
    return drained;
}

std::size_t JobQueue::size() const {
    const std::lock_guard lock(mutex_);
    return size_;
}

bool JobQueue::backed_up() const {
    const std::lock_guard lock(mutex_);
    return size_ > 0 && seats_ == nullptr;
}

}  // namespace syncyte::python
