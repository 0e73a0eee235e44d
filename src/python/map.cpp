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
    Runner(Ref<Map> map, Ref<Pool> pool, std::size_t wanted)
        : map_(std::move(map)), pool_(std::move(pool)), wanted_(wanted) {
        const std::lock_guard lock(map_->mutex_);
        ++map_->runners_;
    }

    void run(Desk& desk) override { map_->work(desk, pool_, wanted_); }
    void abandon(const Error& reason) override {
        map_->stop(reason);
        map_->end_runner();
    }

  private:
    const Ref<Map> map_;
    const Ref<Pool> pool_;
    const std::size_t wanted_;
};

Map::Map(Ref<Function> function, std::vector<Value> items, std::size_t chunk, int workers)
    : function_(std::move(function)),
      chunk_(chunk),
      workers_(workers),
      items_(std::move(items)),
      states_(std::make_unique<std::atomic<State>[]>(items_.size())),
      end_(items_.size()),
      wanted_(kNobody) {}

Result<void> Map::start(const Ref<Pool>& pool, std::size_t most, Deadline deadline, JobQueue::Room room) {
    const std::size_t chunk = std::max<std::size_t>(chunk_, 1);
    const std::size_t useful =
        std::min({(items_.size() + chunk - 1) / chunk, static_cast<std::size_t>(workers_), most});
    for (std::size_t i = 0; i < useful; ++i) {
        Ref<Job> runner = make_ref<Runner>(Ref<Map>::share(this), pool, kNobody);
        // The others help the first one; a full queue does without them.
        const Result<void> sent =
            pool->submit(std::move(runner), 0, i == 0 ? deadline : Deadline::now(), room);
        if (sent) continue;
        end_runner();
        if (i == 0 || sent.error().code == ErrorCode::kClosed) return sent;
        break;
    }
    return {};
}

Ref<Job> Map::helper(const Ref<Pool>& pool, std::size_t index) {
    return make_ref<Runner>(Ref<Map>::share(this), pool, index);
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

void Map::work(Desk& desk, const Ref<Pool>& pool, std::size_t wanted) {
    PyObject* callable = desk.callable(*function_);
    PyObject* error = callable == nullptr ? PyErr_GetRaisedException() : nullptr;
    std::size_t chunk = std::max<std::size_t>(chunk_, 1);
    while (!pool->dropping() && next_.load() <= wanted) {
        if (desk.needs_recycling() && wanted == kNobody) {
            // Others go on meanwhile, or this worker does when it is new again.
            Ref<Job> successor = make_ref<Runner>(Ref<Map>::share(this), pool, kNobody);
            if (pool->submit(std::move(successor), 0, Deadline::now(), JobQueue::Room::kIgnored)) break;
            end_runner();  // the pool is closing: this one does the rest
        }
        const std::size_t allowed = std::max<std::uint64_t>(desk.tasks_left(), 1);
        const std::size_t run = std::min(chunk, allowed);
        const std::size_t first = next_.fetch_add(run);
        const std::size_t end = end_.load();
        if (first >= end) break;
        const std::size_t last = std::min(first + run, end);
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
        const double each = seconds_between(start, Clock::now()) / static_cast<double>(last - first);
        cost_.store(each, std::memory_order_relaxed);
        desk.count_tasks(last - first);
        publish(published, last);
        if (chunk_ == 0) chunk = next_chunk(chunk, each, end - last);
    }
    Py_XDECREF(error);
    Py_XDECREF(callable);
    if (pool->dropping()) stop(Error(ErrorCode::kCancelled));
    end_runner();
}

// How many items to claim after a claim of `chunk` items that took `each` seconds apiece.
std::size_t Map::next_chunk(std::size_t chunk, double each, std::size_t rest) const {
    const auto worth = static_cast<std::size_t>(std::min(kClaimSeconds / (each + 1e-9), 1e6));
    const std::size_t share = rest / (2 * static_cast<std::size_t>(workers_)) + 1;
    return std::clamp<std::size_t>(worth, 1, std::min(4 * chunk, share));
}

void Map::run_one(Desk& desk, PyObject* callable, std::size_t index) {
    PyObject* result = nullptr;
    if (callable != nullptr) {
        if (PyObject* args = from_value(desk.state(), items_[index])) {
            const Desk::Limited limited(desk);
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
