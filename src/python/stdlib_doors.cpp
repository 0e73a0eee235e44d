#include "python/stdlib_doors.h"

#include "python/handles.h"
#include "python/reference.h"

#if PY_VERSION_HEX >= 0x030e0000 && PY_VERSION_HEX < 0x030f0000

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wconversion"
#define Py_BUILD_CORE 1
extern "C" {
#include <internal/pycore_crossinterp.h>
}
#pragma GCC diagnostic pop

namespace syncyte::python {

namespace {

// In the interpreter that receives.
PyObject* arrive(_PyXIData_t* data) {
    const Reference module = Reference::adopt(PyImport_ImportModule("syncyte._core"));
    if (!module) return nullptr;
    return wrap_handle(state_of(module.get()), Ref<Handle>::share(static_cast<Handle*>(data->data)));
}

void let_go(void* data) { static_cast<Handle*>(data)->release(); }

// In the interpreter that sends.
int depart(PyThreadState* thread, PyObject* object, _PyXIData_t* data) {
    Handle* handle = reinterpret_cast<HandleObject*>(object)->handle;
    handle->retain();
    _PyXIData_Init(data, PyThreadState_GetInterpreter(thread), handle, nullptr, arrive);
    _PyXIData_SET_FREE(data, let_go);
    return 0;
}

}  // namespace

int open_stdlib_doors(PyTypeObject* type) {
    return _PyXIData_RegisterClass(PyThreadState_Get(), type, {.basic = depart, .fallback = nullptr});
}

}  // namespace syncyte::python

#else

namespace syncyte::python {

int open_stdlib_doors(PyTypeObject* /*type*/) { return 0; }

}  // namespace syncyte::python

#endif
