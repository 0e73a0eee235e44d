#include "python/wait.h"

#include <unistd.h>

namespace syncyte::python {

namespace {

// Runs a little Python, since only the interpreter's loop raises asynchronous exceptions.
int run_nothing() {
    PyObject* code = Py_CompileString("None", "<syncyte>", Py_eval_input);
    if (code == nullptr) return -1;
    PyObject* globals = PyDict_New();
    PyObject* none = globals == nullptr ? nullptr : PyEval_EvalCode(code, globals, globals);
    Py_XDECREF(globals);
    Py_DECREF(code);
    if (none == nullptr) return -1;
    Py_DECREF(none);
    return 0;
}

}  // namespace

bool runs_signal_handlers() {
    thread_local const bool main_thread = gettid() == getpid();
    return main_thread && PyInterpreterState_Get() == PyInterpreterState_Main();
}

int look_at_interrupts() { return runs_signal_handlers() ? PyErr_CheckSignals() : run_nothing(); }

Deadline next_slice(Deadline deadline) {
    constexpr double kSlice = 0.05;  // seconds
    return runs_signal_handlers() ? earlier(deadline, Deadline::after(kSlice)) : deadline;
}

Wake wait_detached(const Handoff& handoff, Deadline deadline) {
    Parker& parker = Parker::of_this_thread();
    while (true) {
        const Deadline slice = next_slice(deadline);
        const Wake wake = [&] {
            const Detached detached;
            return parker.wait(handoff, slice);
        }();
        if (wake == Wake::kUnparked || (wake == Wake::kTimedOut && slice == deadline)) return wake;
        if (look_at_interrupts() < 0) return Wake::kInterrupted;
    }
}

}  // namespace syncyte::python
