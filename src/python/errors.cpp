#include "python/errors.h"

#include <cstring>

namespace syncyte::python {

namespace {

PyObject* exception_for(const ModuleState& state, ErrorCode code) {
    switch (code) {
        case ErrorCode::kInvalidArgument: return PyExc_ValueError;
        case ErrorCode::kNotFound: return PyExc_FileNotFoundError;
        case ErrorCode::kIo: return PyExc_OSError;
        case ErrorCode::kTimedOut: return PyExc_TimeoutError;
        case ErrorCode::kModel: return state.model_error;
        case ErrorCode::kOverloaded: return state.overloaded_error;
        case ErrorCode::kClosed: return state.closed_error;
        case ErrorCode::kCancelled: return state.cancelled_error;
        case ErrorCode::kFull:
        case ErrorCode::kEmpty:
        case ErrorCode::kInterrupted: break;
    }
    return state.error;
}

const char* default_message(ErrorCode code) {
    switch (code) {
        case ErrorCode::kClosed: return "closed";
        case ErrorCode::kFull: return "full";
        case ErrorCode::kEmpty: return "empty";
        case ErrorCode::kTimedOut: return "timed out";
        case ErrorCode::kCancelled: return "cancelled";
        case ErrorCode::kInterrupted: return "interrupted";
        case ErrorCode::kOverloaded: return "overloaded: too many requests are waiting";
        case ErrorCode::kInvalidArgument: return "invalid argument";
        case ErrorCode::kNotFound: return "not found";
        case ErrorCode::kIo: return "input/output error";
        case ErrorCode::kModel: return "the model failed";
    }
    return "unknown error";
}

int add_exception(PyObject* module, PyObject*& member, const char* name, const char* doc, PyObject* base) {
    member = PyErr_NewExceptionWithDoc(name, doc, base, nullptr);
    if (member == nullptr) return -1;
    return PyModule_AddObjectRef(module, name + sizeof("syncyte.") - 1, member);
}

}  // namespace

PyObject* raise_error(const ModuleState& state, const Error& error) {
    const char* text = error.message.empty() ? default_message(error.code) : error.message.c_str();
    // A message may quote a damaged file.
    PyObject* message = PyUnicode_DecodeUTF8(text, static_cast<Py_ssize_t>(std::strlen(text)), "replace");
    if (message == nullptr) return nullptr;
    PyErr_SetObject(exception_for(state, error.code), message);
    Py_DECREF(message);
    return nullptr;
}

void add_note(const std::string& text) {
    PyObject* error = PyErr_GetRaisedException();
    PyObject* none = PyObject_CallMethod(error, "add_note", "s", text.c_str());
    Py_XDECREF(none);
    PyErr_Clear();
    PyErr_SetRaisedException(error);
}

int register_errors(PyObject* module, ModuleState& state) {
    if (add_exception(module, state.error, "syncyte.Error", "Base of syncyte's own exceptions.",
                      PyExc_Exception) < 0 ||
        add_exception(module, state.model_error, "syncyte.ModelError",
                      "A model file cannot be used, or its execution failed.", state.error) < 0 ||
        add_exception(module, state.overloaded_error, "syncyte.OverloadedError",
                      "More work was offered than the configured limit allows.", state.error) < 0 ||
        add_exception(module, state.closed_error, "syncyte.ClosedError",
                      "The object, or its other side, was closed.", state.error) < 0 ||
        add_exception(module, state.cancelled_error, "syncyte.CancelledError",
                      "The request was cancelled before it finished.", state.error) < 0) {
        return -1;
    }
    return 0;
}

}  // namespace syncyte::python
