// One interpreter and the OS thread that lives in it.
#pragma once

#include <Python.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <thread>

#include "base/parking.h"
#include "base/ref.h"
#include "channel/channel.h"
#include "python/attach.h"
#include "python/desk.h"
#include "python/on_main.h"
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

    // Raises syncyte._worker.TaskInterrupted in what runs here now, at its next bytecode, and wakes it from a
    // wait of ours; nothing if that is not `job` (null: any) of `pool` (null: any). Detached, on any thread;
    // blocks while a long C call holds the interpreter's lock.
    void interrupt(const Pool* pool, const Job* job);

    [[nodiscard]] bool runs(const Job* job) const { return does(nullptr, job); }

    // If `job` runs here: the worker leaves its pool, which must find another for its place, as soon as the
    // job ends. True with the place's index; any thread.
    std::optional<int> set_aside(const Job* job);

  private:
    void live();
    [[nodiscard]] bool does(const Pool* pool, const Job* job) const;
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
    Parker* parker_ = nullptr;
    Ref<Visits> visits_;                      // of the thread, to the main interpreter
    std::atomic<const Pool*> pool_{nullptr};  // these three change under the interpreter's own lock
    std::atomic<const Job*> job_{nullptr};
    bool interrupted_ = false;
    std::mutex place_mutex_;  // guards place_ and aside_, and job_'s end
    int place_ = -1;
    bool aside_ = false;
};

}  // namespace syncyte::python
