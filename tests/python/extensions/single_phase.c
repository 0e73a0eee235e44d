// The old way: the init function makes the module itself.
#include "audit_module.h"

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "single_phase", .m_size = -1};

PyMODINIT_FUNC PyInit_single_phase(void) { return PyModule_Create(&definition); }
