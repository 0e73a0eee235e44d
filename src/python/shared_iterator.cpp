#include "python/reference.h"
#include "python/shared.h"

namespace syncyte::python {

namespace {

struct Iterator {
    PyObject_HEAD PyObject* owner;  // null once exhausted
    std::size_t index;
    Part part;
    bool backwards;
};

Iterator* as_iterator(PyObject* self) { return reinterpret_cast<Iterator*>(self); }

void dealloc(PyObject* self) {
    PyTypeObject* type = Py_TYPE(self);
    Py_XDECREF(as_iterator(self)->owner);
    type->tp_free(self);
    Py_DECREF(type);
}

PyObject* next(PyObject* self) {
    Iterator* iterator = as_iterator(self);
    if (iterator->owner == nullptr) return nullptr;
    const NodeHeader& node = *as_shared(iterator->owner)->node;
    if (iterator->index >= node.count) {
        Py_CLEAR(iterator->owner);
        return nullptr;
    }
    const std::size_t index = iterator->backwards ? node.count - 1 - iterator->index : iterator->index;
    ++iterator->index;
    if (iterator->part == Part::kElements) return read_element(iterator->owner, node_slots(node)[index]);
    const Entry& entry = node_entries(node)[index];
    if (iterator->part == Part::kKeys) return read_element(iterator->owner, entry.key);
    if (iterator->part == Part::kValues) return read_element(iterator->owner, entry.value);
    const Reference key = Reference::adopt(read_element(iterator->owner, entry.key));
    const Reference value = key ? Reference::adopt(read_element(iterator->owner, entry.value)) : Reference();
    return value ? PyTuple_Pack(2, key.get(), value.get()) : nullptr;
}

PyObject* length_hint(PyObject* self, PyObject* /*unused*/) {
    const Iterator* iterator = as_iterator(self);
    return PyLong_FromSize_t(
        iterator->owner == nullptr ? 0 : as_shared(iterator->owner)->node->count - iterator->index);
}

PyMethodDef methods[] = {
    {"__length_hint__", length_hint, METH_NOARGS, "How many are left."},
    {},
};

PyType_Slot slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
    {Py_tp_iter, reinterpret_cast<void*>(PyObject_SelfIter)},
    {Py_tp_iternext, reinterpret_cast<void*>(next)},
    {Py_tp_methods, methods},
    {0, nullptr},
};

PyType_Spec spec = {
    .name = "syncyte._core.SharedIterator",
    .basicsize = sizeof(Iterator),
    .itemsize = 0,
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

}  // namespace

PyObject* iterate(ModuleState& state, PyObject* self, Part part, bool backwards) {
    auto* type = reinterpret_cast<PyTypeObject*>(state.shared_iterator);
    PyObject* made = type->tp_alloc(type, 0);
    if (made == nullptr) return nullptr;
    Iterator* iterator = as_iterator(made);
    iterator->owner = Py_NewRef(self);
    iterator->part = part;
    iterator->backwards = backwards;
    return made;
}

int register_shared_iterator(PyObject* module, ModuleState& state) {
    state.shared_iterator = PyType_FromModuleAndSpec(module, &spec, nullptr);
    return state.shared_iterator == nullptr ? -1 : 0;
}

}  // namespace syncyte::python
