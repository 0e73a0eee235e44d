#include "python/on_main.h"

#include <algorithm>
#include <optional>
#include <string>

#include "base/cpu.h"
#include "python/attach.h"
#include "python/convert.h"
#include "python/task.h"
#include "python/wait.h"

namespace syncyte::python {

namespace {

// The main interpreter's syncyte._on_main._answer, called with what `question` stands for. Attached to the
// main interpreter. Nothing with a Python error set, in the main interpreter.
std::optional<Value> answer(const Value& question) {
    std::optional<Value> value;
    PyObject* core = PyImport_ImportModule("syncyte._core");
    PyObject* on_main = core == nullptr ? nullptr : PyImport_ImportModule("syncyte._on_main");
    PyObject* asked = on_main == nullptr ? nullptr : from_value(state_of(core), question);
    PyObject* answered = asked == nullptr ? nullptr : PyObject_CallMethod(on_main, "_answer", "(O)", asked);
    if (answered != nullptr) value = to_value(state_of(core), answered);
    Py_XDECREF(answered);
    Py_XDECREF(asked);
    Py_XDECREF(on_main);
    Py_XDECREF(core);
    return value;
}

std::string take_error_text() {
    PyObject* error = PyErr_GetRaisedException();
    PyObject* text = error == nullptr ? nullptr : PyObject_Repr(error);
    const char* utf8 = text == nullptr ? nullptr : PyUnicode_AsUTF8(text);
    std::string taken = utf8 == nullptr ? "unknown error" : utf8;
    PyErr_Clear();
    Py_XDECREF(text);
    Py_XDECREF(error);
    return taken;
}

PyObject* call_on_main(PyObject* module, PyObject* asked) {
    ModuleState& state = state_of(module);
    const std::optional<Value> question = to_value(state, asked);
    if (!question) return nullptr;
    // A thread that enters an interpreter on its way out never returns.
    if (Py_IsFinalizing() != 0) {
        PyErr_SetString(PyExc_RuntimeError, "the main interpreter is ending");
        return nullptr;
    }
    std::optional<Value> answered;
    std::string trouble;
    {
        // The thread lends itself: it leaves its interpreter and enters the main one with a thread state made
        // for this call. CPython binds PyGILState_Ensure(), which extension modules use, to the state that
        // was attached last, so theirs find the main interpreter too.
        const Ref<Visits>& visits = Visits::of_this_thread();
        const std::uint64_t before = visits->begin();
        const Detached detached;
        const Attachment main(PyInterpreterState_Main());
        if (visits->arrive()) {
            answered = answer(*question);
            if (!answered) trouble = take_error_text();
        } else {
            trouble = "the task was interrupted";
        }
        visits->end(before);
    }
    if (answered) return from_value(state, *answered);
    PyErr_Format(PyExc_RuntimeError, "the main interpreter could not answer: %s", trouble.c_str());
    return nullptr;
}

PyObject* is_main(PyObject* /*module*/, PyObject* /*unused*/) {
    return PyBool_FromLong(static_cast<long>(PyInterpreterState_Get() == PyInterpreterState_Main()));
}

PyObject* idle_cores(PyObject* /*module*/, PyObject* /*unused*/) {
    return PyLong_FromLong(std::max(0, usable_cores() - running_threads()));
}

PyMethodDef methods[] = {
    {"_call_on_main", call_on_main, METH_O, "What the main interpreter's syncyte._on_main._answer returns."},
    {"_is_main", is_main, METH_NOARGS, "Whether this is the main interpreter."},
    {"_idle_cores", idle_cores, METH_NOARGS, "Cores this process may use that nobody runs on now."},
    {},
};

}  // namespace

const Ref<Visits>& Visits::of_this_thread() {
    thread_local const Ref<Visits> visits = make_ref<Visits>();
    return visits;
}

std::uint64_t Visits::begin() { return present_.exchange(next_id(), std::memory_order_relaxed); }

bool Visits::arrive() {
    const std::uint64_t visit = present_.load(std::memory_order_relaxed);
    arrived_.store(visit, std::memory_order_relaxed);
    return unwanted_.load(std::memory_order_relaxed) != visit;
}

void Visits::end(std::uint64_t before) {
    present_.store(before, std::memory_order_relaxed);
    arrived_.store(before, std::memory_order_relaxed);
}

std::uint64_t Visits::give_up() {
    const std::uint64_t visit = present_.load(std::memory_order_relaxed);
    if (visit != 0) unwanted_.store(visit, std::memory_order_relaxed);
    return visit;
}

void Visits::interrupt(std::uint64_t visit, unsigned long ident) const {
    if (visit == 0 || Py_IsFinalizing() != 0) return;
    const Attachment main(PyInterpreterState_Main());
    if (arrived_.load(std::memory_order_relaxed) != visit) return;
    PyObject* worker = PyImport_ImportModule("syncyte._worker");
    PyObject* type = worker == nullptr ? nullptr : PyObject_GetAttrString(worker, "TaskInterrupted");
    // The import may have let go of the lock. Of several states that the thread has in the main interpreter,
    // CPython finds the newest first: the visit's.
    if (type != nullptr && arrived_.load(std::memory_order_relaxed) == visit) {
        PyThreadState_SetAsyncExc(ident, type);
    }
    PyErr_Clear();
    Py_XDECREF(type);
    Py_XDECREF(worker);
}

int register_on_main(PyObject* module, ModuleState& /*state*/) {
    return PyModule_AddFunctions(module, methods);
}

}  // namespace syncyte::python
