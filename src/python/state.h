// What one interpreter keeps of this extension: its own types and exceptions, never a static.
#pragma once

#include <Python.h>

#include "value/handle.h"

namespace syncyte::python {

struct ModuleState;
struct PickleScope;
struct Leavers;

// Makes the Python object that stands for `handle` in this interpreter; a new reference, or nullptr with a
// Python error set.
using Wrap = PyObject* (*)(ModuleState & state, Ref<Handle> handle);

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
    X(cancelled_error)           \
    X(handle_type)               \
    X(restore_handle)            \
    X(pickle_dumps)              \
    X(pickle_loads)              \
    X(request_type)              \
    X(task_type)                 \
    X(function_type)             \
    X(map_type)                  \
    X(pool_type)                 \
    X(channel_closed)            \
    X(queue_empty)               \
    X(queue_full)                \
    X(queue_shut_down)           \
    X(aio)                       \
    X(port_type)                 \
    X(async_wait_type)           \
    X(shared_type)               \
    X(shared_list)               \
    X(shared_tuple)              \
    X(shared_named_tuple)        \
    X(shared_dict)               \
    X(shared_set)                \
    X(shared_record)             \
    X(shared_iterator)           \
    X(shared_views)

#define X(name) PyObject* name;
    SYNCYTE_STATE_MEMBERS(X)
#undef X

    // By HandleKind, owned like the members above; see python/handles.h.
    PyTypeObject* handle_types[kHandleKinds];
    // By HandleKind; null: an instance of the type above.
    Wrap wraps[kHandleKinds];
    // By HandleKind: the module of the package that replaces the type at first use; null: none, or done.
    const char* handle_modules[kHandleKinds];
    // Short ASCII strings lately received as keys of dicts, by a hash of their characters; null: none yet.
    PyObject* recent_keys[256];
    // Pickles that a conversion is making right now, one for each thread that is at it.
    PickleScope* pickle_scopes;
    // What is told when this interpreter ends; see python/leaving.h.
    Leavers* leavers;
};

ModuleState& state_of(PyObject* module);

// The state behind a heap type of this module, or behind an instance of one (subclasses included).
// nullptr with a Python error set when the type is not ours.
ModuleState* state_of_type(PyTypeObject* type);

extern PyModuleDef module_def;

}  // namespace syncyte::python
