// One interpreter and the OS thread that lives in it.
#pragma once

#include <Python.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <thread>

#include "base/ref.h"
#include "channel/channel.h"
#include "python/attach.h"
#include "python/desk.h"
#include "python/pool.h"

namespace syncyte::python {

class Crew;

// Opens an interpreter through syncyte._pool._open in its home (the interpreter whose crew it belongs to),
// enters it, and serves one pool after another. Between pools it waits, detached, with its modules warm.
// The thread blocks all signals. Whoever owns the crew stops and joins it.
class Worker : public RefCounted {
  public:
    // A place in a pool: the worker with this index.
    struct Post {
        Ref<Pool> pool;
        int index = -1;
    };

    Worker(Ref<Crew> crew, PyInterpreterState* home);
    ~Worker() override;

    // Starts the thread, or wakes it from between pools. Any thread.
    void take(Post post);

    // No further pool; the thread ends when the present one is done. Any thread.
    void dismiss();
    void join();  // detached from any interpreter

    // Raises syncyte._worker.TaskInterrupted in what runs here now, at its next bytecode; nothing if no job
    // runs. Detached, on any thread; blocks while the interpreter's lock is held by a long C call.
    void interrupt();

  private:
    void live();
    bool open_interpreter(const Post& first);
    void serve(const Post& post, Desk& desk, Attachment& attachment);
    void work(const Post& post, Desk& desk, Attachment& attachment);

    const Ref<Crew> crew_;
    PyInterpreterState* const home_;
    PyInterpreterState* interpreter_ = nullptr;  // set before the first post is served, then constant
    std::int64_t interpreter_id_ = -1;
    const Ref<Channel<Post>> posts_;
    std::thread thread_;

    std::mutex interrupt_mutex_;      // guards present_: an interrupter keeps the interpreter from going
    bool present_ = false;            // the thread is inside its interpreter
    unsigned long thread_ident_ = 0;  // as Python knows the thread
    bool in_job_ = false;             // these two: under the interpreter's own lock
    bool interrupted_ = false;
};

}  // namespace syncyte::python
