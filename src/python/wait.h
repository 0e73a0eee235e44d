// Blocking with the interpreter detached, and without keeping Ctrl-C waiting.
#pragma once

#include <Python.h>

#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/parking.h"
#include "python/state.h"

namespace syncyte::python {

// Lets go of the interpreter while it lives. The thread must be attached; what is waited for must not need
// it.
class Detached {
  public:
    Detached() : thread_(PyEval_SaveThread()) {}
    ~Detached() { PyEval_RestoreThread(thread_); }
    Detached(const Detached&) = delete;
    Detached& operator=(const Detached&) = delete;

  private:
    PyThreadState* thread_;
};

// Whether this thread runs signal handlers: the main thread of the main interpreter.
bool runs_signal_handlers();

// To be called attached, after a wait was interrupted: runs signal handlers, and raises an exception that
// PyThreadState_SetAsyncExc has sent to this thread. -1: a Python exception is set.
int look_at_interrupts();

// The end of one slice of a wait. A signal that comes just before the thread falls asleep does not wake it,
// so the thread that runs handlers looks up every 50 ms; all others sleep until `deadline`.
Deadline next_slice(Deadline deadline);

// Waits, detached, for a handoff of this thread. kUnparked: fired. kTimedOut. kInterrupted: a signal handler
// or an asynchronous exception raised; the Python exception is set and the wait is the caller's to cancel.
Wake wait_detached(const Handoff& handoff, Deadline deadline);

// Runs call(Deadline) -> Result<T>, detached, until it ends otherwise than by kInterrupted, or by kTimedOut
// before `deadline`. kInterrupted: a Python exception is set. A call that waits in a line loses its place now
// and then on the main thread; Channel's waits in two steps with wait_detached() do not.
template <class Call>
auto call_detached(Deadline deadline, Call call) -> decltype(call(deadline)) {
    while (true) {
        const Deadline slice = next_slice(deadline);
        auto result = [&] {
            const Detached detached;
            return call(slice);
        }();
        if (result) return result;
        const ErrorCode code = result.error().code;
        const bool slice_over = code == ErrorCode::kTimedOut && slice != deadline;
        if (code != ErrorCode::kInterrupted && !slice_over) return result;
        if (look_at_interrupts() < 0) return failure(ErrorCode::kInterrupted);
    }
}

// _spin_time(): for tests and benchmarks.
int register_wait(PyObject* module, ModuleState& state);

}  // namespace syncyte::python
