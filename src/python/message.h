// Message: a converted object that stays converted, to be received any number of times.
#pragma once

#include <Python.h>

#include "python/state.h"

namespace syncyte::python {

// Message(object, *, pickle=True), with get(): private, for tests and for senders to many.
int register_message(PyObject* module, ModuleState& state);

}  // namespace syncyte::python
