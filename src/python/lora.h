// syncyte.Lora: an adapter of a model, for requests that ask for it.
#pragma once

#include <Python.h>

#include <string>

#include "python/state.h"
#include "scheduler/shared_model.h"

namespace syncyte::python {

// A new Lora, or nullptr with a Python error set. It keeps the model open.
PyObject* make_lora(ModuleState& state, Ref<SharedModel> model, AppliedAdapter adapter, std::string path);

// What a Lora, or None, stands for. False with TypeError or ClosedError set.
bool read_lora(PyObject* object, AppliedAdapter& into);

int register_lora(PyObject* module, ModuleState& state);

}  // namespace syncyte::python
