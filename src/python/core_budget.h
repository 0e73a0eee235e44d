// What Python says about the engine's share of the cores.
#pragma once

#include <Python.h>

#include "python/state.h"

namespace syncyte::python {

// _set_core_budget(engine, agents).
int register_core_budget(PyObject* module, ModuleState& state);

}  // namespace syncyte::python
