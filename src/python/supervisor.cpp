#include "python/supervisor.h"

#include <algorithm>
#include <utility>

#include "python/crew.h"
#include "python/thread.h"

namespace syncyte::python {

namespace {

constexpr auto kLater = [](const auto& a, const auto& b) { return a.when > b.when; };

}  // namespace

Supervisor::Supervisor(Crew& crew) : orders_(make_ref<Channel<Order>>()), crew_(crew) {}

// Not joined under the lock: what the thread interrupts may call give().
void Supervisor::stop() {
    orders_->close(Close::kDiscard);
    std::thread ending;
    {
        const std::lock_guard lock(mutex_);
        stopped_ = true;
        ending = std::move(thread_);
    }
    if (ending.joinable()) ending.join();
}

void Supervisor::give(Order order) {
    {
        const std::lock_guard lock(mutex_);
        if (stopped_) return;
        if (!thread_.joinable()) thread_ = start_thread([this] { serve(); });
    }
    [[maybe_unused]] const Result<void> given = orders_->try_put(std::move(order));  // refused after stop()
}

void Supervisor::limit(Ref<Task> task, Ref<Pool> pool, Clock::time_point when) {
    give({.when = when, .step = Step::kLimit, .task = std::move(task), .pool = std::move(pool)});
}

void Supervisor::interrupt(Ref<Task> task, Ref<Pool> pool) {
    give({.when = Clock::now(), .step = Step::kInterrupt, .task = std::move(task), .pool = std::move(pool)});
}

void Supervisor::watch(Ref<Pool> pool) {
    give({.when = Clock::now(), .step = Step::kLook, .task = nullptr, .pool = std::move(pool)});
}

void Supervisor::serve() {
    name_this_thread("syncyte-superv");
    while (true) {
        const Deadline next = waiting_.empty() ? Deadline::never() : Deadline::at(waiting_.front().when);
        Result<Order> order = orders_->get(next);
        if (order) {
            keep(std::move(*order));
        } else if (order.error().code == ErrorCode::kClosed) {
            break;
        }
        while (!waiting_.empty() && waiting_.front().when <= Clock::now()) {
            std::ranges::pop_heap(waiting_, kLater);
            Order due = std::move(waiting_.back());
            waiting_.pop_back();
            carry_out(std::move(due));
        }
    }
    waiting_.clear();
    for (Interrupter& interrupter : interrupters_) interrupter.thread.join();
    interrupters_.clear();
}

void Supervisor::keep(Order order) {
    // Most tasks end long before their limit, and their orders keep what they returned: these are dropped
    // whenever they may be as many as the others.
    constexpr std::size_t kFew = 4;
    if (waiting_.size() >= crowd_) {
        std::erase_if(waiting_, [](const Order& o) { return o.step == Step::kLimit && o.task->finished(); });
        std::ranges::make_heap(waiting_, kLater);
        crowd_ = std::max(kFew, 2 * waiting_.size());
    }
    waiting_.push_back(std::move(order));
    std::ranges::push_heap(waiting_, kLater);
}

void Supervisor::carry_out(Order order) {
    if (order.step == Step::kReplace) {
        crew_.replace(order.pool, order.task.get());
        return;
    }
    if (order.step == Step::kLook) {
        if (!crew_.even_out(order.pool)) {
            order.pool->unwatched();
            // Whoever came between the two found the pool watched.
            if (!order.pool->backed_up() || !order.pool->watch()) return;
        }
        keep_for(std::move(order), kLookSeconds);
        return;
    }
    if (order.step == Step::kLimit && !order.task->time_out()) return;
    if (!crew_.runs(order.task.get())) return;
    interrupt_now(order.task);
    order.step = Step::kReplace;
    keep_for(std::move(order), kPatienceSeconds);
}

void Supervisor::keep_for(Order order, double seconds) {
    order.when =
        Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    keep(std::move(order));
}

void Supervisor::interrupt_now(const Ref<Task>& task) {
    std::erase_if(interrupters_, [](Interrupter& interrupter) {
        if (!interrupter.done->load()) return false;
        interrupter.thread.join();
        return true;
    });
    auto done = std::make_shared<std::atomic<bool>>(false);
    interrupters_.push_back({.thread = start_thread([this, task, done] {
                                 crew_.interrupt(nullptr, task.get());
                                 done->store(true);
                             }),
                             .done = done});
}

}  // namespace syncyte::python
