// Entering an interpreter from a thread that Python does not know.
#pragma once

#include <Python.h>

#include "base/check.h"
#include "base/clock.h"

namespace syncyte::python {

// A thread state of its own for this OS thread, attached for the scope's life (detach() pauses that).
// `interpreter` must stay alive meanwhile. For threads that are attached nowhere else.
class Attachment {
  public:
    explicit Attachment(PyInterpreterState* interpreter) : thread_(PyThreadState_New(interpreter)) {
        check(thread_ != nullptr, "no memory for a Python thread state");
        PyEval_RestoreThread(thread_);
    }
    ~Attachment() {
        PyThreadState_Clear(thread_);
        PyThreadState_DeleteCurrent();
    }
    Attachment(const Attachment&) = delete;
    Attachment& operator=(const Attachment&) = delete;

    void detach() { PyEval_SaveThread(); }
    void attach() { PyEval_RestoreThread(thread_); }

  private:
    PyThreadState* thread_;
};

// None: never(); a number: seconds from now. False with TypeError set for anything else.
inline bool parse_timeout(PyObject* object, Deadline& deadline) {
    deadline = Deadline::never();
    if (object == nullptr || object == Py_None) return true;
    const double seconds = PyFloat_AsDouble(object);
    if (seconds == -1.0 && PyErr_Occurred() != nullptr) return false;
    deadline = Deadline::after(seconds);
    return true;
}

}  // namespace syncyte::python
