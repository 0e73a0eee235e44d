// A call in the main interpreter from a thread of another: extension modules that refuse to be anywhere else
// live there.
#pragma once

#include <Python.h>

#include "python/state.h"

namespace syncyte::python {

// _is_main(), _call_on_main(message), _idle_cores(): see _core.pyi.
int register_on_main(PyObject* module, ModuleState& state);

}  // namespace syncyte::python
