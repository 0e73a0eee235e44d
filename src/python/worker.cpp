#include "python/worker.h"

#include <memory>
#include <utility>

#include "base/check.h"
#include "python/crew.h"
#include "python/thread.h"

namespace syncyte::python {

namespace {

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

}  // namespace

Worker::Worker(Ref<Crew> crew, PyInterpreterState* home)
    : crew_(std::move(crew)), home_(home), posts_(make_ref<Channel<Post>>()) {}

Worker::~Worker() { check(!thread_.joinable(), "a worker's thread outlived its crew"); }

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
    Result<Post> post = posts_->get(Deadline::never());
    if (post && open_interpreter(*post)) {
        Attachment attachment(interpreter_);
        thread_ident_ = PyThread_get_thread_ident();
        parker_ = &Parker::of_this_thread();
        visits_ = Visits::of_this_thread();
        const std::unique_ptr<Desk> desk = Desk::open(interpreter_id_);
        if (desk == nullptr) {
            post->pool->fail(broken("syncyte cannot be imported in a new interpreter: " + error_text()));
            post->pool->left(post->index);
        }
        {
            const std::lock_guard lock(interrupt_mutex_);
            present_ = desk != nullptr;
        }
        while (desk != nullptr && post) {
            serve(*post, *desk, attachment);
            const bool replaced = aside_;
            crew_->come_home(*this);  // first, so that who waits for the pool's end can have this worker
            if (!replaced) post->pool->left(post->index);
            *post = {};
            attachment.detach();
            do post = posts_->get(Deadline::never());
            while (!post && post.error().code == ErrorCode::kInterrupted);
            attachment.attach();
        }
        attachment.detach();
        {
            const std::lock_guard lock(interrupt_mutex_);
            present_ = false;
        }
        attachment.attach();
    }
    crew_->gone(*this);
}

bool Worker::open_interpreter(const Post& first) {
    Attachment home(home_);
    PyObject* pool = PyImport_ImportModule("syncyte._pool");
    PyObject* opened = pool == nullptr ? nullptr : PyObject_CallMethod(pool, "_open", nullptr);
    long long id = -1;
    unsigned long long address = 0;
    const bool ok = opened != nullptr && PyArg_ParseTuple(opened, "LK", &id, &address);
    if (ok) {
        interpreter_ = reinterpret_cast<PyInterpreterState*>(address);
        interpreter_id_ = id;
    } else {
        first.pool->fail(broken("cannot make an interpreter: " + error_text()));
        first.pool->left(first.index);
    }
    Py_XDECREF(opened);
    Py_XDECREF(pool);
    return ok;
}

void Worker::serve(const Post& post, Desk& desk, Attachment& attachment) {
    Pool& pool = *post.pool;
    WorkerRecord& record = pool.record(post.index);
    name_this_thread(pool.name() + "_" + std::to_string(post.index));
    record.interpreter.store(interpreter_id_, std::memory_order_relaxed);
    desk.serve(post.pool, post.index);
    {
        const std::lock_guard lock(place_mutex_);
        place_ = post.index;
        aside_ = false;
    }
    TaskOutcome entered = desk.enter(pool.setup());
    if (entered.ending == Ending::kReturned) {
        record.state.store(WorkerState::kIdle, std::memory_order_relaxed);
        pool.ready();
        pool_.store(&pool, std::memory_order_relaxed);
        work(post, desk, attachment);
    } else {
        pool.fail(std::move(entered));
    }
    desk.leave();
}

void Worker::work(const Post& post, Desk& desk, Attachment& attachment) {
    Pool& pool = *post.pool;
    WorkerRecord& record = pool.record(post.index);
    while (true) {
        Result<Ref<Job>> job = pool.try_take(post.index);
        if (!job) {
            if (job.error().code == ErrorCode::kClosed) return;
            record.state.store(WorkerState::kIdle, std::memory_order_relaxed);
            attachment.detach();
            job = pool.take(post.index);
            attachment.attach();
            if (!job) continue;
        }
        const std::int64_t start = now_ns();
        record.state.store(WorkerState::kBusy, std::memory_order_relaxed);
        record.busy_since_ns.store(start, std::memory_order_relaxed);
        job_.store(job->get(), std::memory_order_relaxed);
        (*job)->run(desk);
        bool aside = false;
        {
            const std::lock_guard lock(place_mutex_);
            job_.store(nullptr, std::memory_order_relaxed);
            aside = aside_;
        }
        if (interrupted_) {
            // It may have come too late to be raised: the next job must not see it.
            interrupted_ = false;
            PyThreadState_SetAsyncExc(thread_ident_, nullptr);
        }
        if (aside) return;
        record.busy_since_ns.store(0, std::memory_order_relaxed);
        record.busy_ns.fetch_add(now_ns() - start, std::memory_order_relaxed);
        record.tasks.fetch_add(1 + desk.take_more_tasks(), std::memory_order_relaxed);
    }
}

bool Worker::does(const Pool* pool, const Job* job) const {
    const Job* present = job_.load(std::memory_order_relaxed);
    if (present == nullptr || (job != nullptr && job != present)) return false;
    return pool == nullptr || pool == pool_.load(std::memory_order_relaxed);
}

std::optional<int> Worker::set_aside(const Job* job) {
    const std::lock_guard lock(place_mutex_);
    if (aside_ || !does(nullptr, job)) return std::nullopt;
    aside_ = true;
    return place_;
}

void Worker::interrupt(const Pool* pool, const Job* job) {
    const std::lock_guard lock(interrupt_mutex_);
    if (!present_ || !does(pool, job)) return;
    std::uint64_t visit = 0;
    {
        const Attachment visitor(interpreter_);
        if (!does(pool, job)) return;  // now for certain: it changes only under the lock we hold
        PyObject* module = PyImport_ImportModule("syncyte._worker");
        PyObject* type = module == nullptr ? nullptr : PyObject_GetAttrString(module, "TaskInterrupted");
        if (type != nullptr) {
            interrupted_ = true;
            PyThreadState_SetAsyncExc(thread_ident_, type);
            visit = visits_->give_up();
            parker_->interrupt();
        }
        PyErr_Clear();
        Py_XDECREF(type);
        Py_XDECREF(module);
    }
    if (visit == 0) return;
    visits_->interrupt(visit, thread_ident_);
    parker_->interrupt();  // for a wait there that began, or looked up, too early
}

}  // namespace syncyte::python
