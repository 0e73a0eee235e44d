// Loads anywhere by its slots, and then says itself that it wants the main interpreter.
#include "audit_module.h"

static int fill(PyObject* module) {
    (void)module;
    if (PyInterpreterState_Get() == PyInterpreterState_Main()) return 0;
    PyErr_SetString(PyExc_ImportError, "one interpreter per process, please");
    return -1;
}

AUDIT_MODULE(main_only, fill, OWN_GIL)
