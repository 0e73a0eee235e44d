#include "python/notifier.h"

#include "python/attach.h"
#include "python/thread.h"

namespace syncyte::python {

namespace {

// Passes one event to syncyte._pool._deliver; what goes wrong there is shown, as for any callback.
void deliver(const Event& event) {
    PyObject* pool = PyImport_ImportModule("syncyte._pool");
    PyObject* done = nullptr;
    if (pool != nullptr) {
        done = PyObject_CallMethod(pool, "_deliver", "iK", static_cast<int>(event.kind),
                                   static_cast<unsigned long long>(event.id));
    }
    if (done == nullptr) PyErr_WriteUnraisable(pool);
    Py_XDECREF(done);
    Py_XDECREF(pool);
}

}  // namespace

void Notifier::post(Event event) {
    // An unbounded channel refuses only after stop(), when nobody is left to tell.
    [[maybe_unused]] const Result<void> told =
        events_->try_put(std::move(event));  // NOLINT(performance-move-const-arg)
}

void Notifier::start() {
    const std::lock_guard lock(mutex_);
    if (!stopped_ && !thread_.joinable()) thread_ = start_thread([this] { serve(); });
}

// Not joined under the lock: what the thread delivers may call start().
void Notifier::stop() {
    events_->close();
    std::thread ending;
    {
        const std::lock_guard lock(mutex_);
        stopped_ = true;
        ending = std::move(thread_);
    }
    if (ending.joinable()) ending.join();
}

void Notifier::serve() {
    name_this_thread("syncyte-notify");
    Result<Event> event = events_->get(Deadline::never());
    while (event || event.error().code == ErrorCode::kInterrupted) {
        if (event) {
            Attachment home(home_);
            for (; event; event = events_->try_get()) deliver(*event);
        }
        event = events_->get(Deadline::never());
    }
}

}  // namespace syncyte::python
