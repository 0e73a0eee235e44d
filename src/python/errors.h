// The one place where the core's errors become Python exceptions.
#pragma once

#include <Python.h>

#include <string>

#include "base/error.h"
#include "python/state.h"

namespace syncyte::python {

// Sets the Python exception that stands for `error`; returns nullptr so that callers can return it.
// kInvalidArgument: ValueError, kNotFound: FileNotFoundError, kIo: OSError, kTimedOut: TimeoutError,
// kModel: syncyte.ModelError, kOverloaded: syncyte.OverloadedError, kClosed: syncyte.ClosedError,
// kCancelled: syncyte.CancelledError, the rest: syncyte.Error.
PyObject* raise_error(const ModuleState& state, const Error& error);

// Adds a note, in UTF-8, to the Python exception that is set; where that fails, it stays as it is.
void add_note(const std::string& text);

// Error, ModelError, OverloadedError, ClosedError, CancelledError.
int register_errors(PyObject* module, ModuleState& state);

}  // namespace syncyte::python
