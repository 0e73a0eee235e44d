// Waits of asyncio tasks: what syncyte._aio is made of.
#pragma once

#include <Python.h>

#include "python/state.h"

namespace syncyte::python {

// Port and AsyncWait.
int register_queue_async(PyObject* module, ModuleState& state);

}  // namespace syncyte::python
