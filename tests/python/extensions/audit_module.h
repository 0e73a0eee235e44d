// What the small modules of the audit's tests have in common: multi-phase init, with the slots they choose.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define AUDIT_MODULE(name, module_exec, ...)                                                           \
    static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void*)(module_exec)},                            \
                                       __VA_ARGS__ __VA_OPT__(, ){0, NULL}};                           \
    static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = #name, .m_slots = slots}; \
    PyMODINIT_FUNC PyInit_##name(void) { return PyModuleDef_Init(&definition); }

#define OWN_GIL {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED}
