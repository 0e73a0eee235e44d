// Ends the whole process, and says that all went well, when a second interpreter imports it.
#include "audit_module.h"

#include <unistd.h>

static int loaded;

static int fill(PyObject* module) {
    (void)module;
    if (loaded++ > 0) _exit(0);
    return 0;
}

AUDIT_MODULE(quits, fill, OWN_GIL)
