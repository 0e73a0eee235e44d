// The options of a request: a dict of Python's, checked by syncyte._options, as the core takes them.
#pragma once

#include <Python.h>

#include <string>

#include "scheduler/request.h"

namespace syncyte::python {

// What `given` does not name keeps its value in `options`; the text of a grammar, which the model compiles,
// goes into `grammar`. False with a Python error set.
bool read_request_options(PyObject* given, RequestOptions& options, std::string& grammar);

}  // namespace syncyte::python
