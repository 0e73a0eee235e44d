// How an extension module declares itself to CPython: what `syncyte audit` reads before it tries anything.
#pragma once

#include <Python.h>

#include "python/state.h"

namespace syncyte::python {

// _inspect_extension(name, path): see _core.pyi.
int register_audit(PyObject* module, ModuleState& state);

}  // namespace syncyte::python
