// Functions that only benchmarks call.
#pragma once

#include <Python.h>

#include "python/state.h"

namespace syncyte::python {

int register_measure(PyObject* module, ModuleState& state);

}  // namespace syncyte::python
