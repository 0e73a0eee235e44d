// Arguments of METH_FASTCALL | METH_KEYWORDS functions.
#pragma once

#include <Python.h>

#include <array>
#include <cstddef>
#include <optional>
#include <span>

#include "base/clock.h"

namespace syncyte::python {

// Sorts positional and keyword arguments into `slots`, by `names`. Missing ones stay nullptr; the first
// `required` may not be missing. Borrowed references. False: TypeError is set.
bool sort_arguments(const char* function, std::span<const char* const> names, std::size_t required,
                    PyObject* const* args, Py_ssize_t count, PyObject* keywords, std::span<PyObject*> slots);

// The `block` and `timeout` of queue.Queue's methods, either of which may be nullptr (left out). timeout is
// in seconds; None: no limit. Deadline::now() when not to block. Nothing, with an error set, for a timeout
// that is negative or no number.
std::optional<Deadline> deadline_of(PyObject* block, PyObject* timeout);

}  // namespace syncyte::python
