// Imports well everywhere; the first interpreter's end takes away what the others go on using.
#include "audit_module.h"

static int loaded;

static int fill(PyObject* module) {
    (void)module;
    ++loaded;
    return 0;
}

static void leave(void* module) {
    (void)module;
    if (--loaded > 0) abort();
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void*)fill}, OWN_GIL, {0, NULL}};
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "crashes_on_closing", .m_slots = slots, .m_free = leave};

PyMODINIT_FUNC PyInit_crashes_on_closing(void) { return PyModuleDef_Init(&definition); }
