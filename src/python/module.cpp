// syncyte._core: multi-phase init, one copy of the state per interpreter, safe under a GIL of its own.
#include <Python.h>

#include "python/audit.h"
#include "python/bound_map.h"
#include "python/bound_pool.h"
#include "python/bound_reference.h"
#include "python/bound_task.h"
#include "python/buffer.h"
#include "python/channel_ends.h"
#include "python/core_budget.h"
#include "python/errors.h"
#include "python/handles.h"
#include "python/leaving.h"
#include "python/lora.h"
#include "python/measure.h"
#include "python/message.h"
#include "python/model.h"
#include "python/on_main.h"
#include "python/queue.h"
#include "python/queue_async.h"
#include "python/request.h"
#include "python/select.h"
#include "python/shared.h"
#include "python/state.h"
#include "python/wait.h"

namespace syncyte::python {

ModuleState& state_of(PyObject* module) { return *static_cast<ModuleState*>(PyModule_GetState(module)); }

ModuleState* state_of_type(PyTypeObject* type) {
    PyObject* module = PyType_GetModuleByDef(type, &module_def);
    return module == nullptr ? nullptr : &state_of(module);
}

namespace {

using Register = int (*)(PyObject* module, ModuleState& state);

// Each bound type or group of functions has one file, and one line here. Order matters only where a
// type derives from another.
// clang-format off: one line each
constexpr Register kRegisters[] = {
    register_errors,
    register_audit,
    register_on_main,
    register_handles,
    register_message,
    register_model,
    register_lora,
    register_request,
    register_task,
    register_map,
    register_pool,
    register_references,
    register_wait,
    register_measure,
    register_core_budget,
    register_leaving,
    register_queue,
    register_channel_ends,
    register_select,
    register_queue_async,
    register_buffer,
    register_shared,
};
// clang-format on

int exec_module(PyObject* module) {
    ModuleState& state = state_of(module);
    for (const Register add : kRegisters) {
        if (add(module, state) < 0) return -1;
    }
    return PyModule_AddStringConstant(module, "__version__", SYNCYTE_VERSION);
}

int traverse_module(PyObject* module, visitproc visit, void* arg) {
    ModuleState& state = state_of(module);
#define X(name) Py_VISIT(state.name);
    SYNCYTE_STATE_MEMBERS(X)
#undef X
    for (PyTypeObject* type : state.handle_types) Py_VISIT(type);
    return 0;
}

int clear_module(PyObject* module) {
    ModuleState& state = state_of(module);
#define X(name) Py_CLEAR(state.name);
    SYNCYTE_STATE_MEMBERS(X)
#undef X
    for (PyTypeObject*& type : state.handle_types) Py_CLEAR(type);
    for (PyObject*& key : state.recent_keys) Py_CLEAR(key);
    return 0;
}

void free_module(void* module) {
    clear_module(static_cast<PyObject*>(module));
    unregister_leaving(state_of(static_cast<PyObject*>(module)));
}

PyModuleDef_Slot slots[] = {
    {Py_mod_exec, reinterpret_cast<void*>(exec_module)},
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
    {Py_mod_gil, Py_MOD_GIL_USED},
    {0, nullptr},
};

}  // namespace

PyModuleDef module_def = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "syncyte._core",
    .m_doc = "The compiled core of syncyte. Private: use the names of the syncyte package.",
    .m_size = sizeof(ModuleState),
    .m_methods = nullptr,
    .m_slots = slots,
    .m_traverse = traverse_module,
    .m_clear = clear_module,
    .m_free = free_module,
};

}  // namespace syncyte::python

PyMODINIT_FUNC PyInit__core() {  // NOLINT(bugprone-reserved-identifier): the import system looks for it
    return PyModuleDef_Init(&syncyte::python::module_def);
}
