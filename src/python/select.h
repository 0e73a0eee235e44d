// select(): getting from whichever of several queues and receivers has something first.
#pragma once

#include <Python.h>

#include "python/state.h"

namespace syncyte::python {

int register_select(PyObject* module, ModuleState& state);

}  // namespace syncyte::python
