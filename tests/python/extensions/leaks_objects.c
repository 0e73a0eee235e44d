// Each import loses a reference to one small object.
#include "audit_module.h"

static int fill(PyObject* module) {
    PyObject* lost = PyDict_New();
    if (lost == NULL) return -1;
    return PyModule_AddObjectRef(module, "lost", lost);
}

AUDIT_MODULE(leaks_objects, fill, OWN_GIL)
