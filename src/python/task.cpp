#include "python/task.h"

#include <utility>

#include "python/desk.h"
#include "python/notifier.h"

namespace syncyte::python {

std::uint64_t next_id() {
    // All that tasks of different interpreters have in common.
    static std::atomic<std::uint64_t> last{0};
    return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

Function::Function(std::string encoded, bool remember)
    : id(next_id()), bytes(std::move(encoded)), keep(remember) {}

Task::Task(Ref<Function> function, Value args, Value kwargs, double timeout, int place)
    : id_(next_id()),
      timeout_(timeout),
      place_(place),
      function_(std::move(function)),
      args_(std::move(args)),
      kwargs_(std::move(kwargs)) {}

bool Task::start(Desk& desk) {
    const std::lock_guard lock(mutex_);
    if (state_.load(std::memory_order_relaxed) != State::kPending) return false;
    worker_.store(desk.worker(), std::memory_order_relaxed);
    interpreter_.store(desk.interpreter(), std::memory_order_relaxed);
    state_.store(State::kRunning, std::memory_order_release);
    return true;
}

void Task::run(Desk& desk) {
    if (!start(desk)) return;
    desk.count_tasks(1);
    if (timeout_ > 0) desk.limit(Ref<Task>::share(this), timeout_);
    const Ref<Function> function = std::move(function_);
    const Value args = std::exchange(args_, Value{});
    const Value kwargs = std::exchange(kwargs_, Value{});
    finish(desk.call(*function, args, kwargs));
}

void Task::abandon(const Error& reason) {
    const Ending ending = reason.code == ErrorCode::kCancelled ? Ending::kCancelled : Ending::kBroken;
    end_if_pending({.ending = ending, .value = {}, .failure = {}, .message = reason.message});
}

bool Task::cancel() {
    return end_if_pending({.ending = Ending::kCancelled, .value = {}, .failure = {}, .message = {}});
}

bool Task::end_if_pending(TaskOutcome outcome) {
    const std::lock_guard lock(mutex_);
    if (state_.load(std::memory_order_relaxed) != State::kPending) return false;
    function_ = nullptr;
    args_ = Value{};
    kwargs_ = Value{};
    publish(std::move(outcome));
    return true;
}

bool Task::finish(TaskOutcome outcome) {
    const std::lock_guard lock(mutex_);
    if (state_.load(std::memory_order_relaxed) == State::kFinished) return false;
    publish(std::move(outcome));
    return true;
}

bool Task::time_out() {
    return finish(
        {.ending = Ending::kTimedOut, .value = {}, .failure = {}, .message = "the task took too long"});
}

void Task::publish(TaskOutcome outcome) {
    outcome_ = std::move(outcome);
    state_.store(State::kFinished, std::memory_order_release);
    // Before anybody who waits goes on: what that thread then causes must be told after this.
    if (notifier_) notifier_->post({.kind = Event::Kind::kTaskFinished, .id = id_});
    notifier_ = nullptr;
    waiters_.wake_all();
}

Result<void> Task::wait(Deadline deadline) {
    if (finished()) return {};
    std::unique_lock lock(mutex_);
    return wait_until(waiters_, lock, deadline, [this] { return finished(); });
}

bool Task::watch(Ref<Notifier> notifier) {
    const std::lock_guard lock(mutex_);
    if (finished()) return false;
    notifier_ = std::move(notifier);
    return true;
}

}  // namespace syncyte::python
