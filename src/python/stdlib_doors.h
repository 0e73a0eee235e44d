// Lets handles pass where concurrent.interpreters takes natively shareable objects only.
#pragma once

#include <Python.h>

namespace syncyte::python {

// Teaches this interpreter's Interpreter.prepare_main(), call() and concurrent.interpreters queues to pass
// instances of exactly `type`, a handle type, by reference: what is in flight there holds one, and nothing is
// pickled. CPython has no public way to say so; where its private one differs from the one known here this
// does nothing, and all but prepare_main() still pass handles by pickle.
int open_stdlib_doors(PyTypeObject* type);

}  // namespace syncyte::python
