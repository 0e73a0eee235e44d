// Claims to be fit for an own GIL, and counts in a variable that all interpreters share.
#include "audit_module.h"

static long imports_so_far;

static int fill(PyObject* module) { return PyModule_AddIntConstant(module, "number", ++imports_so_far); }

AUDIT_MODULE(shared_static, fill, OWN_GIL)
