// A map in progress, as its consumer in Python sees it.
#pragma once

#include <Python.h>

#include <cstddef>

#include "base/ref.h"
#include "python/pool.h"
#include "python/state.h"

namespace syncyte::python {

// A new _core.Map for `items`, a list of argument tuples; nullptr with a Python error set.
PyObject* start_map(ModuleState& state, const Ref<Pool>& pool, PyObject* function, PyObject* items,
                    std::size_t chunk, std::size_t most, JobQueue::Room room);

// _core.Map. After register_task.
int register_map(PyObject* module, ModuleState& state);

}  // namespace syncyte::python
