// Fit for an own GIL: what it makes belongs to the module.
#include "audit_module.h"

static int fill(PyObject* module) {
    PyObject* numbers = PyList_New(0);
    const int added = PyModule_AddObjectRef(module, "numbers", numbers);
    Py_XDECREF(numbers);
    return added;
}

AUDIT_MODULE(safe, fill, OWN_GIL, {Py_mod_gil, Py_MOD_GIL_NOT_USED})
