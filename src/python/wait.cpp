#include "python/wait.h"

#include <unistd.h>

#include <chrono>

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

PyObject* py_spin_time(PyObject* /*module*/, PyObject* const* args, Py_ssize_t count) {
    using Seconds = std::chrono::duration<double>;
    const double before = Seconds(spin_time()).count();
    if (count > 0 && args[0] != Py_None) {
        const double seconds = PyFloat_AsDouble(args[0]);
        if (PyErr_Occurred() != nullptr) return nullptr;
        if (!(seconds >= 0 && seconds <= 1)) {
            PyErr_SetString(PyExc_ValueError, "the spin time must be between 0 and 1 seconds");
            return nullptr;
        }
        set_spin_time(std::chrono::duration_cast<std::chrono::nanoseconds>(Seconds(seconds)));
    }
    return PyFloat_FromDouble(before);
}

PyMethodDef functions[] = {
    {"_spin_time", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(py_spin_time)), METH_FASTCALL,
     "_spin_time(seconds=None, /)\n--\n\n"
     "How long a wait spins before it sleeps, in the whole process; sets it when given. Returns what it "
     "was."},
    {},
};

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

int register_wait(PyObject* module, ModuleState& /*state*/) {
    return PyModule_AddFunctions(module, functions);
}

}  // namespace syncyte::python
