// One interpreter and the OS thread that lives in it.
#pragma once

#include <Python.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/parking.h"
#include "base/ref.h"
#include "channel/channel.h"
#include "python/desk.h"
#include "python/on_main.h"
#include "python/pool.h"

namespace syncyte::python {

class Crew;

// Its thread attaches to its home (the interpreter whose crew it belongs to) and calls syncyte._pool._live
// there, which makes an interpreter and calls live_here() in it. There it stays and serves one pool after
// another; between jobs and between pools it waits, detached, with its modules warm. As far as Python can
// tell that call runs all the time, so nobody can close the interpreter under it. The thread blocks all
// signals. Whoever owns the crew stops and joins it.
class Worker : public RefCounted {
  public:
    // A place in a pool.
    struct Post {
        Ref<Pool> pool;
        int place = -1;
    };

    Worker(Ref<Crew> crew, PyInterpreterState* home);
    ~Worker() override;

    // Starts the thread, or wakes it from between pools. Any thread.
    void take(Post post);

    // No further pool; the thread ends when the present one is done. Any thread.
    void dismiss();
    void join();  // detached from any interpreter

    // The part of the thread's life inside the interpreter it is attached to now. False with a Python error
    // set when syncyte cannot be imported there.
    bool live_here();

    // Raises syncyte._worker.TaskInterrupted in what runs here now, at its next bytecode, and wakes it from a
    // wait of ours; nothing if `job` (null: any) of `pool` (null: any) is not among it. Detached, on any
    // thread; blocks while a long C call holds the interpreter's lock.
    void interrupt(const Pool* pool, const Job* job);

    [[nodiscard]] bool runs(const Job* job) const;

    // If `job` runs here: the worker leaves its pool, which must find another for its place, as soon as all
    // that runs here is over. True with the place; any thread.
    std::optional<int> set_aside(const Job* job);

    // Whether it is in the midst of a job of `pool`, sleeps, and has used no CPU since it was last asked. For
    // one thread, the supervisor's.
    bool waits_in_task(const Pool* pool);

    // The worker whose thread this is, if it is one; null otherwise.
    static Worker* of_this_thread();

    // For the worker's own thread, attached to its interpreter, in the midst of a job of `pool`.
    [[nodiscard]] bool can_help(const Pool& pool) const;
    // Runs a job of that pool right here. False with TaskInterrupted set when the job around it has been
    // interrupted meanwhile.
    bool help(Job& job);
    // The job that runs here has submitted `task` to `pool`. When it is interrupted, the task ends too, if
    // there is a future of it that has not left this interpreter.
    void submitted(const Ref<Task>& task, const Ref<Pool>& pool);
    Desk& desk() { return *desk_; }

  private:
    // What a job has submitted.
    struct Child {
        Ref<Task> task;
        Ref<Pool> pool;
    };

    // How deep in jobs within jobs an interruption goes: to the one with this index.
    static constexpr int kNotInterrupted = -1;

    void live();
    bool serve(const Post& post);
    void work(const Post& post);
    void run(Job& job);
    [[nodiscard]] std::optional<int> depth_of(const Pool* pool, const Job* job) const;
    void set_present(bool present);
    [[nodiscard]] std::vector<Child> own_children(int depth);
    static void end(const Child& child);

    const Ref<Crew> crew_;
    PyInterpreterState* const home_;
    PyInterpreterState* interpreter_ = nullptr;  // set before the first post is served, then constant
    std::int64_t interpreter_id_ = -1;
    const Ref<Channel<Post>> posts_;
    std::thread thread_;
    Post post_;  // this and the next two: the thread's own
    Desk* desk_ = nullptr;
    int interrupted_ = kNotInterrupted;         // changes under the interpreter's own lock, as does the next
    std::vector<std::vector<Child>> children_;  // by depth of the job

    std::mutex interrupt_mutex_;      // guards present_: an interrupter keeps the interpreter from going
    bool present_ = false;            // the thread is inside its interpreter
    unsigned long thread_ident_ = 0;  // as Python knows the thread
    int thread_id_ = 0;               // as the kernel does; set before the first job, then constant
    Parker* parker_ = nullptr;
    Ref<Visits> visits_;  // of the thread, to the main interpreter

    // Guards what follows. jobs_ changes under the interpreter's own lock as well.
    mutable std::mutex place_mutex_;
    std::vector<const Job*> jobs_;  // that run here, each in the midst of the one before it
    const Pool* pool_ = nullptr;
    int place_ = -1;
    bool aside_ = false;
    std::uint64_t turns_ = 0;  // jobs begun or ended

    std::uint64_t seen_turns_ = 0;  // this and the next: the supervisor's
    std::int64_t seen_cpu_ns_ = -1;
};

}  // namespace syncyte::python
