// Tells an interpreter about things that end elsewhere.
#pragma once

#include <Python.h>

#include <cstdint>
#include <mutex>
#include <thread>

#include "base/ref.h"
#include "channel/channel.h"

namespace syncyte::python {

// What happened, and to whom: the ids mean something to syncyte._pool alone.
struct Event {
    enum class Kind : std::uint8_t {
        kTaskFinished,  // id of a watched task
        kPoolFailed,    // id of a pool: a worker could not be made, or its initializer raised
    };
    Kind kind;
    std::uint64_t id;
};

// One per interpreter that owns pools. Workers post events without touching Python; a thread of its own,
// which sleeps until then, attaches to the interpreter and calls syncyte._pool._deliver with what came.
//
// start() and stop() belong to the owning interpreter; post() to anybody. After stop() events are dropped.
class Notifier : public RefCounted {
  public:
    explicit Notifier(PyInterpreterState* home) : home_(home), events_(make_ref<Channel<Event>>()) {}

    void post(Event event);

    // Both are idempotent; nothing starts again after stop(), which joins the thread: call it detached.
    void start();
    void stop();

  private:
    void serve();

    PyInterpreterState* const home_;
    const Ref<Channel<Event>> events_;
    std::mutex mutex_;  // guards the next two
    std::thread thread_;
    bool stopped_ = false;
};

}  // namespace syncyte::python
