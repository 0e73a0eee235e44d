// What one interpreter keeps of this extension: its own types and exceptions, never a static.
#pragma once

#include <Python.h>

namespace syncyte::python {

// Lives in the module object of one interpreter. Every pointer is a strong reference, made by the
// register_* functions, visited and cleared with the module. Only a thread attached to that interpreter
// may touch it.
struct ModuleState {
    // One line per member; state.cpp walks them by this list.
#define SYNCYTE_STATE_MEMBERS(X) \
    X(error)                     \
    X(model_error)               \
    X(overloaded_error)          \
    X(closed_error)              \
    X(cancelled_error)

#define X(name) PyObject* name;
    SYNCYTE_STATE_MEMBERS(X)
#undef X
};

ModuleState& state_of(PyObject* module);

// The state behind a heap type of this module, or behind an instance of one (subclasses included).
// nullptr with a Python error set when the type is not ours.
ModuleState* state_of_type(PyTypeObject* type);

extern PyModuleDef module_def;

}  // namespace syncyte::python
