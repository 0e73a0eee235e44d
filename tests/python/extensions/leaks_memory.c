// Each import takes memory that no closing gives back.
#include "audit_module.h"

enum { kBytes = 256 * 1024 };

static int fill(PyObject* module) {
    // volatile: the compiler may leave out memory that nobody is seen to use
    volatile char* block = malloc(kBytes);
    if (block == NULL) return -1;
    for (int i = 0; i < kBytes; ++i) block[i] = 1;
    return PyModule_AddIntConstant(module, "kept", block[0]);
}

AUDIT_MODULE(leaks_memory, fill, OWN_GIL)
