// Multi-phase init that says nothing about interpreters.
#include "audit_module.h"

static int fill(PyObject* module) { return PyModule_AddIntConstant(module, "answer", 42); }

AUDIT_MODULE(no_slot, fill)
