#include "python/map.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "python/convert.h"
#include "python/desk.h"

namespace syncyte::python {

namespace {

constexpr std::size_t kNobody = ~std::size_t{0};
// What a claim should take: long against the cost of claiming, short against what a person notices.
constexpr double kClaimSeconds = 200e-6;

}  // namespace

class Map::Runner : public Job {
  public:
    Runner(Ref<Map> map, Ref<Pool> pool) : map_(std::move(map)), pool_(std::move(pool)) {}

    void run(Desk& desk) override { map_->work(desk, *pool_); }
    void abandon(const Error& reason) override {
        map_->stop(reason);
        map_->end_runner();
    }

  private:
    const Ref<Map> map_;
    const Ref<Pool> pool_;
};

Map::Map(Ref<Function> function, std::vector<Value> items, std::size_t chunk, int workers)
    : function_(std::move(function)),
      chunk_(chunk),
      workers_(workers),
      items_(std::move(items)),
      states_(std::make_unique<std::atomic<State>[]>(items_.size())),
      end_(items_.size()),
      wanted_(kNobody) {}

Result<void> Map::start(const Ref<Pool>& pool) {
    const std::size_t chunk = std::max<std::size_t>(chunk_, 1);
    const std::size_t useful =
        std::min((items_.size() + chunk - 1) / chunk, static_cast<std::size_t>(workers_));
    for (std::size_t i = 0; i < useful; ++i) {
        {
            const std::lock_guard lock(mutex_);
            ++runners_;
        }
        Ref<Job> runner = make_ref<Runner>(Ref<Map>::share(this), pool);
        const Result<void> sent = pool->submit(std::move(runner), 0, Deadline::now());
        if (!sent) {
            end_runner();
            return sent;
        }
    }
    return {};
}

void Map::stop(const Error& reason) {
    const std::lock_guard lock(mutex_);
    reason_ = reason;
    // Claims below next_ are being worked on; the rest is void.
    end_.store(std::min(end_.load(), next_.load()));
    next_.store(items_.size());
    consumer_.wake_all();
}

void Map::end_runner() {
    const std::lock_guard lock(mutex_);
    if (--runners_ == 0) consumer_.wake_all();
}

void Map::work(Desk& desk, Pool& pool) {
    PyObject* callable = desk.callable(*function_);
    PyObject* error = callable == nullptr ? PyErr_GetRaisedException() : nullptr;
    std::size_t chunk = std::max<std::size_t>(chunk_, 1);
    while (!pool.dropping()) {
        const std::size_t first = next_.fetch_add(chunk);
        const std::size_t end = end_.load();
        if (first >= end) break;
        const std::size_t last = std::min(first + chunk, end);
        const Clock::time_point start = Clock::now();
        std::size_t published = first;
        for (std::size_t index = first; index < last; ++index) {
            if (error != nullptr) PyErr_SetRaisedException(Py_NewRef(error));
            run_one(desk, callable, index);
            if ((index & 15) == 15 && seconds_between(start, Clock::now()) > kClaimSeconds) {
                publish(published, index + 1);
                published = index + 1;
            }
        }
        publish(published, last);
        desk.count_tasks(last - first - 1);
        if (chunk_ == 0) {
            const double each = seconds_between(start, Clock::now()) / static_cast<double>(last - first);
            const auto worth = static_cast<std::size_t>(std::min(kClaimSeconds / (each + 1e-9), 1e6));
            const std::size_t rest = end - last;
            const std::size_t share = rest / (2 * static_cast<std::size_t>(workers_)) + 1;
            chunk = std::clamp<std::size_t>(worth, 1, std::min(4 * chunk, share));
        }
    }
    Py_XDECREF(error);
    Py_XDECREF(callable);
    if (pool.dropping()) stop(Error(ErrorCode::kCancelled));
    end_runner();
}

void Map::run_one(Desk& desk, PyObject* callable, std::size_t index) {
    PyObject* result = nullptr;
    if (callable != nullptr) {
        if (PyObject* args = from_value(desk.state(), items_[index])) {
            result = PyObject_Call(callable, args, nullptr);
            Py_DECREF(args);
        }
    }
    std::optional<Value> value;
    if (result != nullptr) {
        value = to_value(desk.state(), result);
        Py_DECREF(result);
    }
    if (value) {
        items_[index] = std::move(*value);
        states_[index].store(State::kReturned, std::memory_order_release);
        return;
    }
    TaskOutcome outcome = desk.outcome_of(nullptr);
    items_[index] = Value{};
    {
        const std::lock_guard lock(mutex_);
        failures_.emplace_back(index, std::move(outcome));
    }
    states_[index].store(State::kFailed, std::memory_order_release);
}

void Map::publish(std::size_t first, std::size_t last) {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const std::size_t wanted = wanted_.load(std::memory_order_relaxed);
    if (wanted < first || wanted >= last) return;
    const std::lock_guard lock(mutex_);
    consumer_.wake_all();
}

// With the mutex held: nobody will ever run the item.
bool Map::lost(std::size_t index) const { return state(index) == State::kOpen && runners_ == 0; }

Result<void> Map::wait(std::size_t index, Deadline deadline) {
    if (state(index) != State::kOpen) return {};
    std::unique_lock lock(mutex_);
    wanted_.store(index, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const Result<void> waited =
        wait_until(consumer_, lock, deadline, [&] { return state(index) != State::kOpen || lost(index); });
    wanted_.store(kNobody, std::memory_order_relaxed);
    if (!waited) return waited;
    if (state(index) == State::kOpen) return std::unexpected(reason_);
    return {};
}

TaskOutcome Map::failure(std::size_t index) {
    const std::lock_guard lock(mutex_);
    const auto found = std::ranges::find(failures_, index, &std::pair<std::size_t, TaskOutcome>::first);
    TaskOutcome outcome = std::move(found->second);
    failures_.erase(found);
    return outcome;
}

}  // namespace syncyte::python
