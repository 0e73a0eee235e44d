// Claims to be fit for an own GIL, and touches memory that is not there in the second interpreter.
#include "audit_module.h"

static int* first_interpreter;
static int answer = 42;

static int fill(PyObject* module) {
    if (PyInterpreterState_Get() == PyInterpreterState_Main()) return 0;
    if (first_interpreter != NULL) first_interpreter = (int*)0x10;
    else first_interpreter = &answer;
    return PyModule_AddIntConstant(module, "answer", *(volatile int*)first_interpreter);
}

AUDIT_MODULE(crashes, fill, OWN_GIL)
