// Tasks and functions as Python objects.
#pragma once

#include <Python.h>

#include "python/pool.h"
#include "python/state.h"
#include "python/task.h"
#include "value/handle.h"

namespace syncyte::python {

// New references; nullptr with a Python error set. `reference`: what the task arrived as, if it did.
PyObject* wrap_task(const ModuleState& state, Ref<Task> task, Ref<Pool> pool,
                    Ref<Handle> reference = nullptr);

// (ending, exception or None, description or None, message) of an outcome that is no result.
PyObject* failure_tuple(ModuleState& state, const TaskOutcome& outcome);

// nullptr with TypeError set when `object` is not one. Borrowed from `object`.
const Ref<Task>* task_of(const ModuleState& state, PyObject* object);
const Ref<Function>* function_of(const ModuleState& state, PyObject* object);

// _core.Task, _core.Function.
int register_task(PyObject* module, ModuleState& state);

}  // namespace syncyte::python
