// Waits for itself in a second interpreter.
#include "audit_module.h"

#include <unistd.h>

static int loaded;

static int fill(PyObject* module) {
    (void)module;
    if (loaded++ > 0) pause();
    return 0;
}

AUDIT_MODULE(hangs, fill, OWN_GIL)
