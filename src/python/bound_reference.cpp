#include "python/bound_reference.h"

#include <utility>

#include "python/bound_pool.h"
#include "python/bound_task.h"
#include "python/handles.h"

namespace syncyte::python {

namespace {

PyObject* arrive_pool(ModuleState& state, Ref<Handle> handle) {
    const auto* reference = static_cast<PoolReference*>(handle.get());
    return wrap_pool(state, reference->pool, reference->crew, std::move(handle));
}

PyObject* arrive_task(ModuleState& state, Ref<Handle> handle) {
    const auto* reference = static_cast<TaskReference*>(handle.get());
    return wrap_task(state, reference->task, reference->pool, std::move(handle));
}

PyType_Slot pool_slots[] = {
    {Py_tp_doc, const_cast<char*>("A pool on its way to another interpreter.")},
    {0, nullptr},
};

PyType_Slot task_slots[] = {
    {Py_tp_doc, const_cast<char*>("A task on its way to another interpreter.")},
    {0, nullptr},
};

PyType_Spec pool_spec = {
    .name = "syncyte._core.PoolReference",
    .basicsize = sizeof(HandleObject),
    .itemsize = 0,
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = pool_slots,
};

PyType_Spec task_spec = {
    .name = "syncyte._core.TaskReference",
    .basicsize = sizeof(HandleObject),
    .itemsize = 0,
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = task_slots,
};

}  // namespace

PyObject* travelling(ModuleState& state, const Ref<Handle>& reference) {
    return new_handle_object(state.handle_types[static_cast<std::size_t>(reference->kind())], reference);
}

int register_references(PyObject* module, ModuleState& state) {
    if (add_handle_type(module, state, pool_spec, HandleKind::kPool) == nullptr) return -1;
    if (add_handle_type(module, state, task_spec, HandleKind::kFuture) == nullptr) return -1;
    set_wrap(state, HandleKind::kPool, arrive_pool);
    set_wrap(state, HandleKind::kFuture, arrive_task);
    return 0;
}

}  // namespace syncyte::python
