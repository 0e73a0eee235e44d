#include "python/worker.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "base/check.h"
#include "python/attach.h"
#include "python/crew.h"
#include "python/supervisor.h"
#include "python/thread.h"
#include "python/wait.h"

namespace syncyte::python {

namespace {

thread_local Worker* this_worker = nullptr;

std::int64_t now_ns() { return Clock::now().time_since_epoch().count(); }

TaskOutcome broken(std::string message) {
    return {.ending = Ending::kBroken, .value = {}, .failure = {}, .message = std::move(message)};
}

// The Python error that is set, as text; clears it.
std::string error_text() {
    PyObject* error = PyErr_GetRaisedException();
    std::string text = error == nullptr ? "unknown error" : Py_TYPE(error)->tp_name;
    if (PyObject* message = error == nullptr ? nullptr : PyObject_Str(error)) {
        if (const char* utf8 = PyUnicode_AsUTF8(message)) text.append(": ").append(utf8);
        Py_DECREF(message);
    }
    PyErr_Clear();
    Py_XDECREF(error);
    return text;
}

// Whether a thread of this process sleeps, rather than wait for a core: by the letter after its name in
// /proc.
bool sleeps(pid_t thread) {
    std::ifstream file("/proc/self/task/" + std::to_string(thread) + "/stat");
    std::string line;
    std::getline(file, line);
    const std::size_t name_end = line.rfind(") ");
    return name_end != std::string::npos && (line[name_end + 2] == 'S' || line[name_end + 2] == 'D');
}

// syncyte._worker.TaskInterrupted here; a new reference, or nullptr (no error set).
PyObject* task_interrupted() {
    PyObject* module = PyImport_ImportModule("syncyte._worker");
    PyObject* type = module == nullptr ? nullptr : PyObject_GetAttrString(module, "TaskInterrupted");
    Py_XDECREF(module);
    if (type == nullptr) PyErr_Clear();
    return type;
}

}  // namespace

Worker::Worker(Ref<Crew> crew, PyInterpreterState* home)
    : crew_(std::move(crew)), home_(home), posts_(make_ref<Channel<Post>>()) {}

Worker::~Worker() { check(!thread_.joinable(), "a worker's thread outlived its crew"); }

Worker* Worker::of_this_thread() { return this_worker; }

void Worker::take(Post post) {
    if (!posts_->try_put(std::move(post))) return;  // dismissed: the crew is closing
    if (!thread_.joinable()) {
        thread_ = start_thread([self = Ref<Worker>::share(this)] { self->live(); });
    }
}

void Worker::dismiss() { posts_->close(); }

void Worker::join() {
    if (thread_.joinable()) thread_.join();
}

void Worker::live() {
    if (Result<Post> post = posts_->get(Deadline::never())) {
        post_ = std::move(*post);
        Attachment home(home_);
        PyObject* pool = PyImport_ImportModule("syncyte._pool");
        PyObject* lived =
            pool == nullptr ? nullptr
                            : PyObject_CallMethod(pool, "_live", "K", reinterpret_cast<std::uintptr_t>(this));
        if (lived == nullptr && interpreter_ == nullptr) {
            post_.pool->fail(broken("cannot make an interpreter: " + error_text()));
            post_.pool->left(post_.place, Pool::Leaver::kNeverReady);
        } else if (lived == nullptr) {
            PyErr_WriteUnraisable(pool);
        }
        Py_XDECREF(lived);
        Py_XDECREF(pool);
        post_ = {};
    }
    crew_->gone(*this);
}

void Worker::set_present(bool present) {
    // Whoever holds the mutex may be waiting for our interpreter.
    const Detached detached;
    const std::lock_guard lock(interrupt_mutex_);
    present_ = present;
}

bool Worker::live_here() {
    PyInterpreterState* interpreter = PyInterpreterState_Get();
    interpreter_id_ = PyInterpreterState_GetID(interpreter);
    thread_ident_ = PyThread_get_thread_ident();
    thread_id_ = gettid();
    parker_ = &Parker::of_this_thread();
    visits_ = Visits::of_this_thread();
    const std::unique_ptr<Desk> desk = Desk::open(interpreter_id_);
    if (desk == nullptr) return false;
    interpreter_ = interpreter;
    desk_ = desk.get();
    this_worker = this;
    set_present(true);
    for (bool more = true; more;) {
        const bool ready = serve(post_);
        bool replaced = false;
        {
            const std::lock_guard lock(place_mutex_);
            replaced = aside_;
        }
        crew_->come_home(*this);  // first, so that who waits for the pool's end can have this worker
        if (!replaced) {
            post_.pool->left(post_.place, ready ? Pool::Leaver::kReady : Pool::Leaver::kNeverReady);
        }
        post_ = {};
        const Detached detached;
        Result<Post> post = posts_->get(Deadline::never());
        while (!post && post.error().code == ErrorCode::kInterrupted) post = posts_->get(Deadline::never());
        more = post.has_value();
        if (more) post_ = std::move(*post);
    }
    set_present(false);
    this_worker = nullptr;
    desk_ = nullptr;
    return true;
}

// Whether the worker got ready for the pool's jobs.
bool Worker::serve(const Post& post) {
    Pool& pool = *post.pool;
    name_this_thread(pool.options().name + "_" + std::to_string(post.place));
    pool.record(post.place).interpreter.store(interpreter_id_, std::memory_order_relaxed);
    pool.record(post.place).meter.store(desk_->meter(), std::memory_order_release);
    desk_->serve(post.pool, post.place);
    {
        const std::lock_guard lock(place_mutex_);
        place_ = post.place;
        pool_ = &pool;
        aside_ = false;
    }
    TaskOutcome entered = desk_->enter(pool.options().setup);
    const bool ready = entered.ending == Ending::kReturned;
    if (ready) {
        pool.ready(post.place);
        work(post);
    } else {
        pool.fail(std::move(entered));
    }
    {
        const std::lock_guard lock(place_mutex_);
        pool_ = nullptr;
    }
    desk_->leave();
    return ready;
}

void Worker::work(const Post& post) {
    Pool& pool = *post.pool;
    WorkerRecord& record = pool.record(post.place);
    while (true) {
        Result<Ref<Job>> job = pool.try_take(post.place);
        if (!job && job.error().code == ErrorCode::kEmpty) {
            record.state.store(WorkerState::kIdle, std::memory_order_relaxed);
            const Detached detached;
            job = pool.take(post.place);
        }
        if (!job) {
            if (job.error().code == ErrorCode::kClosed) return;
            continue;
        }
        const std::int64_t start = now_ns();
        record.state.store(WorkerState::kBusy, std::memory_order_relaxed);
        record.busy_since_ns.store(start, std::memory_order_relaxed);
        run(**job);
        bool aside = false;
        {
            const std::lock_guard lock(place_mutex_);
            aside = aside_;
        }
        if (aside) return;
        record.tasks.fetch_add(desk_->take_tasks(), std::memory_order_relaxed);
        if (desk_->needs_recycling()) {
            TaskOutcome entered = desk_->recycle(pool.options().setup);
            record.recycles.fetch_add(1, std::memory_order_relaxed);
            if (entered.ending != Ending::kReturned) return pool.fail(std::move(entered));
        }
        record.busy_since_ns.store(0, std::memory_order_relaxed);
        record.busy_ns.fetch_add(now_ns() - start, std::memory_order_relaxed);
    }
}

void Worker::run(Job& job) {
    {
        const std::lock_guard lock(place_mutex_);
        jobs_.push_back(&job);
        ++turns_;
    }
    children_.emplace_back();
    job.run(*desk_);
    children_.pop_back();
    int depth = 0;
    {
        const std::lock_guard lock(place_mutex_);
        jobs_.pop_back();
        ++turns_;
        depth = static_cast<int>(jobs_.size());
    }
    if (interrupted_ == kNotInterrupted) return;
    // It may have come too late to be raised: the next job must not see it.
    PyThreadState_SetAsyncExc(thread_ident_, nullptr);
    if (interrupted_ >= depth) interrupted_ = kNotInterrupted;
}

void Worker::submitted(const Ref<Task>& task, const Ref<Pool>& pool) {
    if (children_.empty() || PyInterpreterState_Get() != interpreter_) return;  // on a visit elsewhere
    std::vector<Child>& children = children_.back();
    // Those that are over need not keep their results for us.
    while (!children.empty() && children.back().task->finished()) children.pop_back();
    if (children.size() >= 16 && (children.size() & (children.size() - 1)) == 0) {
        std::erase_if(children, [](const Child& child) { return child.task->finished(); });
    }
    children.push_back({.task = task, .pool = pool});
}

// Those that jobs from `depth` on have futures of, and have shown to no other interpreter. What
// runs here is interrupted with the job around it.
std::vector<Worker::Child> Worker::own_children(int depth) {
    std::vector<Child> own;
    for (auto at = static_cast<std::size_t>(depth); at < children_.size(); ++at) {
        for (const Child& child : children_[at]) {
            const Task& task = *child.task;
            if (task.futures() > 0 && !task.shown() && !task.finished() && !runs(&task)) own.push_back(child);
        }
    }
    return own;
}

void Worker::end(const Child& child) {
    if (child.task->cancel()) return;
    if (child.task->finish({.ending = Ending::kCancelled, .value = {}, .failure = {}, .message = {}})) {
        child.pool->supervisor()->interrupt(child.task, child.pool);
    }
}

bool Worker::can_help(const Pool& pool) const {
    if (PyInterpreterState_Get() != interpreter_) return false;  // on a visit elsewhere, by on_main()
    const std::lock_guard lock(place_mutex_);
    return pool_ == &pool && !jobs_.empty();
}

bool Worker::help(Job& job) {
    run(job);
    if (interrupted_ == kNotInterrupted) return true;
    PyObject* type = task_interrupted();
    PyErr_SetNone(type == nullptr ? PyExc_KeyboardInterrupt : type);
    Py_XDECREF(type);
    return false;
}

// With place_mutex_ held: the index in jobs_ of `job`, or of the outermost job.
std::optional<int> Worker::depth_of(const Pool* pool, const Job* job) const {
    if (jobs_.empty() || (pool != nullptr && pool != pool_)) return std::nullopt;
    if (job == nullptr) return 0;
    const auto found = std::ranges::find(jobs_, job);
    if (found == jobs_.end()) return std::nullopt;
    return static_cast<int>(found - jobs_.begin());
}

bool Worker::runs(const Job* job) const {
    const std::lock_guard lock(place_mutex_);
    return depth_of(nullptr, job).has_value();
}

std::optional<int> Worker::set_aside(const Job* job) {
    const std::lock_guard lock(place_mutex_);
    if (aside_ || !depth_of(nullptr, job)) return std::nullopt;
    aside_ = true;
    return place_;
}

void Worker::interrupt(const Pool* pool, const Job* job) {
    const auto depth = [&] {
        const std::lock_guard lock(place_mutex_);
        return depth_of(pool, job);
    };
    const std::lock_guard lock(interrupt_mutex_);
    if (!present_ || !depth()) return;
    std::uint64_t visit = 0;
    std::vector<Child> children;
    {
        const Attachment visitor(interpreter_);
        const std::optional<int> found = depth();  // now for certain: it changes only under the lock we hold
        PyObject* type = found ? task_interrupted() : nullptr;
        if (type == nullptr) return;
        interrupted_ = interrupted_ == kNotInterrupted ? *found : std::min(interrupted_, *found);
        children = own_children(*found);
        PyThreadState_SetAsyncExc(thread_ident_, type);
        visit = visits_->give_up();
        parker_->interrupt();
        Py_DECREF(type);
    }
    for (const Child& child : children) end(child);
    if (visit == 0) return;
    visits_->interrupt(visit, thread_ident_);
    parker_->interrupt();  // for a wait there that began, or looked up, too early
}

bool Worker::waits_in_task(const Pool* pool) {
    std::uint64_t turns = 0;
    {
        const std::lock_guard lock(place_mutex_);
        if (jobs_.empty() || pool_ != pool) return false;
        turns = turns_;
    }
    constexpr std::int64_t kWaking = 500'000;  // ns of CPU that a wait may take
    clockid_t clock = 0;
    timespec used{};
    if (pthread_getcpuclockid(thread_.native_handle(), &clock) != 0 || clock_gettime(clock, &used) != 0) {
        return false;
    }
    const std::int64_t cpu_ns = used.tv_sec * 1'000'000'000 + used.tv_nsec;
    const bool still = turns == std::exchange(seen_turns_, turns);
    const std::int64_t before = std::exchange(seen_cpu_ns_, cpu_ns);
    return still && cpu_ns - before < kWaking && sleeps(thread_id_);
}

}  // namespace syncyte::python
