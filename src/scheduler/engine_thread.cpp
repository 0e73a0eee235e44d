#include "scheduler/engine_thread.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <new>
#include <utility>

#include "base/clock.h"
#include "base/signals_blocked.h"

namespace syncyte {

namespace {

// Whoever runs out of memory ends its requests with an error, and leaves the others and the process alone.
bool serve(EngineWork& work) {
    try {
        return work.step();
    } catch (const std::bad_alloc&) {
        work.fail_all({ErrorCode::kModel,
                       "memory ran out: close what needs it, or open the model again with a smaller "
                       "context_length or max_sequences"});
        return true;
    }
}

Error ending_error() { return {ErrorCode::kClosed, "the process is ending"}; }

// Whose step is next: of those with work, the one that has had least of the thread's time. Who comes back
// from having none starts level with the others.
class Turns {
  public:
    // The next one first. Forgets those who are gone.
    void order(std::vector<std::shared_ptr<EngineWork>>& works) {
        idle_.clear();
        std::map<const EngineWork*, double> known;
        for (const auto& work : works) {
            const auto found = seconds_.find(work.get());
            known[work.get()] = found == seconds_.end() ? level_ : found->second;
        }
        seconds_ = std::move(known);
        std::ranges::stable_sort(works, {}, [this](const auto& one) { return seconds_[one.get()]; });
    }

    void note(const EngineWork& work, bool worked, double seconds) {
        double& had = seconds_[&work];
        if (!worked) {
            idle_.push_back(&work);
            return;
        }
        level_ = std::max(level_, had);
        had += seconds;
        for (const EngineWork* idle : std::exchange(idle_, {})) {
            seconds_[idle] = std::max(seconds_[idle], level_);
        }
    }

  private:
    std::map<const EngineWork*, double> seconds_;
    std::vector<const EngineWork*> idle_;  // had nothing to do in this round
    double level_ = 0;                     // what the last one who worked had had before
};

}  // namespace

EngineThread& EngineThread::of_process() {
    // Never deleted: threads that outlive main() may still look at it.
    static EngineThread* const engine = [] {
        auto* made = new EngineThread;
        made->process_ = ::getpid();
        return made;
    }();
    return *engine;
}

Result<void> EngineThread::here() const {
    if (::getpid() == process_) return {};
    return failure(ErrorCode::kModel,
                   "a model cannot be used in a child made by fork(): start the child by spawn, or open the "
                   "model in the child only");
}

Result<void> EngineThread::usable() const {
    if (Result<void> same = here(); !same) return same;
    if (stopping_) return std::unexpected(ending_error());
    return {};
}

Result<void> EngineThread::add(std::shared_ptr<EngineWork> work) {
    if (Result<void> can = usable(); !can) return can;
    const std::scoped_lock lock(mutex_);
    if (stopping_) return std::unexpected(ending_error());
    works_.push_back(std::move(work));
    if (!running_) start();
    return {};
}

void EngineThread::start() {
    if (thread_.joinable()) thread_.join();  // it has left its loop
    running_ = true;
    if (!stops_at_exit_) {
        // What was registered last runs first. A model has been loaded and has computed by now, so all that
        // libllama and ggml destroy at exit was registered before, and is still there when the thread stops.
        std::atexit([] { of_process().stop(); });
        stops_at_exit_ = true;
    }
    const SignalsBlocked blocked;
    thread_ = std::thread([this] { run(); });
}

void EngineThread::remove(std::shared_ptr<EngineWork> work) {
    if (::getpid() != process_) {
        // The child's copy of a lock may be held for ever, and of ggml's threads none are there: leave it.
        static_cast<void>(new std::shared_ptr<EngineWork>(std::move(work)));
        return;
    }
    {
        const std::scoped_lock lock(mutex_);
        std::erase(works_, work);
        if (running_) removed_.push_back(std::move(work));
    }
    wake();
}

void EngineThread::wake() {
    if (Parker* parker = parker_.load()) parker->unpark();
}

void EngineThread::stop() {
    if (::getpid() != process_) return;
    std::thread ending;
    {
        const std::scoped_lock lock(mutex_);
        stopping_ = true;
        for (const auto& work : works_) work->interrupt();
        ending = std::move(thread_);
    }
    wake();
    if (ending.joinable()) ending.join();
}

// False when there is nothing left to serve, or the process ends.
bool EngineThread::take_changes(std::vector<std::shared_ptr<EngineWork>>& active) {
    std::vector<std::shared_ptr<EngineWork>> removed;
    {
        const std::scoped_lock lock(mutex_);
        active = works_;
        std::swap(removed, removed_);
        if (stopping_ || (active.empty() && removed.empty())) {
            parker_ = nullptr;
            running_ = false;
            // What comes now starts a new thread, or nothing any more.
            removed_.swap(removed);
            return false;
        }
    }
    removed.clear();  // the last reference to each
    return true;
}

void EngineThread::run() {
    parker_ = &Parker::of_this_thread();
    std::vector<std::shared_ptr<EngineWork>> active;
    Turns turns;
    while (take_changes(active)) {
        turns.order(active);
        bool worked = false;
        for (auto work = active.begin(); work != active.end() && !worked; ++work) {
            const Clock::time_point start = Clock::now();
            worked = serve(**work);
            turns.note(**work, worked, seconds_between(start, Clock::now()));
        }
        const bool none = active.empty();  // the last was removed: nobody is going to wake this thread
        active.clear();
        if (!worked && !none) parker_.load()->park(Deadline::never());
    }
    finish();
}

void EngineThread::finish() {
    // Not under the lock: whoever starts a new thread holds it while it joins this one.
    if (!stopping_) return;
    std::vector<std::shared_ptr<EngineWork>> left;
    {
        const std::scoped_lock lock(mutex_);
        left = std::move(works_);
        left.insert(left.end(), removed_.begin(), removed_.end());
        removed_.clear();
    }
    for (const auto& work : left) work->fail_all(ending_error());
}

}  // namespace syncyte
