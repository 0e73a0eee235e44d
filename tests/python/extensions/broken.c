// Fails wherever it is imported.
#include "audit_module.h"

static int fill(PyObject* module) {
    (void)module;
    PyErr_SetString(PyExc_RuntimeError, "never works");
    return -1;
}

AUDIT_MODULE(broken, fill, OWN_GIL)
