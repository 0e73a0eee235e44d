// syncyte._core.Request: one generation, as its consumer sees it.
#pragma once

#include <Python.h>

#include "base/ref.h"
#include "python/state.h"
#include "scheduler/request.h"

namespace syncyte::python {

// A new Python object for `request`; cancels it when it dies, or its interpreter ends, before the end.
// nullptr with an error set.
PyObject* wrap_request(ModuleState& state, Ref<Request> request);

int register_request(PyObject* module, ModuleState& state);

}  // namespace syncyte::python
