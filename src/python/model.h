// syncyte._core.Model: weights and an engine that the whole process shares; and versions().
#pragma once

#include <Python.h>

#include "python/state.h"

namespace syncyte::python {

int register_model(PyObject* module, ModuleState& state);

}  // namespace syncyte::python
