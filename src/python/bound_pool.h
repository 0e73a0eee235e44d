// Crews and pools as Python objects: the private half of syncyte._pool.
#pragma once

#include <Python.h>

#include "python/state.h"

namespace syncyte::python {

// _core.Crew, _core.Pool, _core.interpreter_address(). After register_task.
int register_pool(PyObject* module, ModuleState& state);

}  // namespace syncyte::python
