// Crews and pools as Python objects: the private half of syncyte._pool.
#pragma once

#include <Python.h>

#include "python/crew.h"
#include "python/pool.h"
#include "python/state.h"
#include "value/handle.h"

namespace syncyte::python {

// A _core.Pool for a pool that another object owns. `reference`: what it arrived as.
PyObject* wrap_pool(ModuleState& state, Ref<Pool> pool, Ref<Crew> crew, Ref<Handle> reference);

// False, with the RuntimeError set that a pool of a parent process deserves.
bool refuse_foreign();

// _core.Crew, _core.Pool, _core._live_here(). After register_task.
int register_pool(PyObject* module, ModuleState& state);

}  // namespace syncyte::python
