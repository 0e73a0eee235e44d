// Shared lists, tuples and namedtuples.
#include "python/reference.h"
#include "python/shared.h"

namespace syncyte::python {

namespace {

std::span<const Slot> slots_of(PyObject* self) { return node_slots(*as_shared(self)->node); }
bool is_list(PyObject* self) { return as_shared(self)->node->kind == NodeKind::kList; }

Py_ssize_t length(PyObject* self) { return static_cast<Py_ssize_t>(slots_of(self).size()); }

PyObject* item(PyObject* self, Py_ssize_t index) {
    const std::span<const Slot> slots = slots_of(self);
    if (static_cast<std::size_t>(index) >= slots.size()) {
        return PyErr_Format(PyExc_IndexError, "index out of range of a shared sequence of %zu", slots.size());
    }
    return read_element(self, slots[static_cast<std::size_t>(index)]);
}

// A plain list or tuple, whose elements may be shared.
PyObject* part(PyObject* self, Py_ssize_t start, Py_ssize_t count, Py_ssize_t step) {
    const std::span<const Slot> slots = slots_of(self);
    const bool list = is_list(self);
    Reference made = Reference::adopt(list ? PyList_New(count) : PyTuple_New(count));
    if (!made) return nullptr;
    for (Py_ssize_t i = 0; i < count; ++i) {
        PyObject* element = read_element(self, slots[static_cast<std::size_t>(start + i * step)]);
        if (element == nullptr) return nullptr;
        if (list) {
            PyList_SET_ITEM(made.get(), i, element);
        } else {
            PyTuple_SET_ITEM(made.get(), i, element);
        }
    }
    return made.leak();
}

PyObject* subscript(PyObject* self, PyObject* key) {
    if (PySlice_Check(key)) {
        Py_ssize_t start = 0;
        Py_ssize_t stop = 0;
        Py_ssize_t step = 0;
        if (PySlice_Unpack(key, &start, &stop, &step) < 0) return nullptr;
        const Py_ssize_t count = PySlice_AdjustIndices(length(self), &start, &stop, step);
        return part(self, start, count, step);
    }
    Py_ssize_t index = PyNumber_AsSsize_t(key, PyExc_IndexError);
    if (index == -1 && PyErr_Occurred() != nullptr) return nullptr;
    return item(self, index < 0 ? index + length(self) : index);
}

// Index of the first element in [from, to) that equals `value`; -1 when none does, -2 on error.
Py_ssize_t find(PyObject* self, PyObject* value, Py_ssize_t from, Py_ssize_t to) {
    const std::span<const Slot> slots = slots_of(self);
    for (Py_ssize_t i = from; i < to; ++i) {
        const int equal = element_equals(self, slots[static_cast<std::size_t>(i)], value);
        if (equal < 0) return -2;
        if (equal > 0) return i;
    }
    return -1;
}

int contains(PyObject* self, PyObject* value) {
    const Py_ssize_t found = find(self, value, 0, length(self));
    return found == -2 ? -1 : static_cast<int>(found >= 0);
}

PyObject* count_method(PyObject* self, PyObject* value) {
    Py_ssize_t count = 0;
    for (Py_ssize_t i = 0; (i = find(self, value, i, length(self))) >= 0; ++i) ++count;
    return PyErr_Occurred() != nullptr ? nullptr : PyLong_FromSsize_t(count);
}

PyObject* index_method(PyObject* self, PyObject* args) {
    PyObject* value = nullptr;
    Py_ssize_t start = 0;
    Py_ssize_t stop = PY_SSIZE_T_MAX;
    if (!PyArg_ParseTuple(args, "O|nn:index", &value, &start, &stop)) return nullptr;
    PySlice_AdjustIndices(length(self), &start, &stop, 1);
    const Py_ssize_t found = find(self, value, start, stop);
    if (found == -1) return PyErr_Format(PyExc_ValueError, "%R is not in the shared sequence", value);
    return found == -2 ? nullptr : PyLong_FromSsize_t(found);
}

PyObject* iter(PyObject* self) {
    ModuleState* state = state_of_type(Py_TYPE(self));
    return state == nullptr ? nullptr : iterate(*state, self, Part::kElements);
}

PyObject* reversed(PyObject* self, PyObject* /*unused*/) {
    ModuleState* state = state_of_type(Py_TYPE(self));
    return state == nullptr ? nullptr : iterate(*state, self, Part::kElements, true);
}

bool comparable(const ModuleState& state, PyObject* self, PyObject* other, bool& shared) {
    shared = Py_TYPE(other) == reinterpret_cast<PyTypeObject*>(state.shared_list) ||
             Py_TYPE(other) == reinterpret_cast<PyTypeObject*>(state.shared_tuple) ||
             Py_TYPE(other) == reinterpret_cast<PyTypeObject*>(state.shared_named_tuple);
    if (shared) return is_list(self) == is_list(other);
    return is_list(self) ? PyList_Check(other) : PyTuple_Check(other);
}

PyObject* compare(PyObject* self, PyObject* other, int operation) {
    ModuleState* state = state_of_type(Py_TYPE(self));
    if (state == nullptr) return nullptr;
    bool shared = false;
    if (!comparable(*state, self, other, shared)) Py_RETURN_NOTIMPLEMENTED;
    const bool equality = operation == Py_EQ || operation == Py_NE;
    if (shared && equality && as_shared(self)->node == as_shared(other)->node) {
        return PyBool_FromLong(operation == Py_EQ ? 1 : 0);
    }
    const Py_ssize_t theirs = shared ? length(other) : Py_SIZE(other);
    if (equality && theirs != length(self)) return PyBool_FromLong(operation == Py_NE ? 1 : 0);
    const Reference left = Reference::adopt(part(self, 0, length(self), 1));
    const Reference right =
        shared && left ? Reference::adopt(part(other, 0, theirs, 1)) : Reference::share(other);
    return left && right ? PyObject_RichCompare(left.get(), right.get(), operation) : nullptr;
}

// A tuple's is that of the plain tuple, to which it is equal.
Py_hash_t hash(PyObject* self) {
    const Reference plain = Reference::adopt(shallow_tuple(self));
    if (!plain) return -1;
    const Py_hash_t hash = PyObject_Hash(plain.get());
    if (hash == -1 || !is_list(self)) return hash;
    return hash == -2 ? 1 : hash + 1;
}

PyObject* named_attribute(PyObject* self, PyObject* name) {
    const Py_ssize_t index = field_index(*as_shared(self)->graph, *as_shared(self)->node, name);
    if (index >= 0) return item(self, index);
    return index == -1 ? PyObject_GenericGetAttr(self, name) : nullptr;
}

PyMethodDef methods[] = {
    {"count", count_method, METH_O, "count(value, /)\n--\n\nHow many elements equal value."},
    {"index", index_method, METH_VARARGS,
     "index(value, start=0, stop=sys.maxsize, /)\n--\n\nWhere the first element equal to value is; "
     "ValueError when "
     "there is none."},
    {"__reversed__", reversed, METH_NOARGS, "From the last to the first."},
    {},
};

#define SYNCYTE_SEQUENCE_SLOTS                                                                        \
    {Py_tp_methods, methods}, {Py_tp_iter, reinterpret_cast<void*>(iter)},                            \
        {Py_tp_richcompare, reinterpret_cast<void*>(compare)},                                        \
        {Py_tp_hash, reinterpret_cast<void*>(within_recursion<hash>)},                                \
        {Py_sq_length, reinterpret_cast<void*>(length)}, {Py_sq_item, reinterpret_cast<void*>(item)}, \
        {Py_sq_contains, reinterpret_cast<void*>(contains)},                                          \
        {Py_mp_length, reinterpret_cast<void*>(length)}, {                                            \
        Py_mp_subscript, reinterpret_cast<void*>(subscript)                                           \
    }

PyType_Slot list_slots[] = {
    {Py_tp_doc, const_cast<char*>("A frozen list: a Sequence equal to the list it was made of.")},
    SYNCYTE_SEQUENCE_SLOTS,
    {0, nullptr},
};
PyType_Slot tuple_slots[] = {
    {Py_tp_doc, const_cast<char*>("A shared tuple: a Sequence equal to the tuple it was made of.")},
    SYNCYTE_SEQUENCE_SLOTS,
    {0, nullptr},
};
PyType_Slot named_tuple_slots[] = {
    {Py_tp_doc, const_cast<char*>("A shared namedtuple: a Sequence with named elements.")},
    {Py_tp_getattro, reinterpret_cast<void*>(named_attribute)},
    SYNCYTE_SEQUENCE_SLOTS,
    {0, nullptr},
};
#undef SYNCYTE_SEQUENCE_SLOTS

}  // namespace

PyObject* shallow_tuple(PyObject* self) {
    const std::span<const Slot> slots = slots_of(self);
    Reference made = Reference::adopt(PyTuple_New(static_cast<Py_ssize_t>(slots.size())));
    for (std::size_t i = 0; made && i < slots.size(); ++i) {
        PyObject* element = read_element(self, slots[i]);
        if (element == nullptr) return nullptr;
        PyTuple_SET_ITEM(made.get(), static_cast<Py_ssize_t>(i), element);
    }
    return made.leak();
}

int register_shared_sequences(PyObject* module, ModuleState& state) {
    state.shared_list =
        make_shared_type(module, state, "syncyte._core.SharedList", list_slots, Py_TPFLAGS_SEQUENCE);
    state.shared_tuple =
        make_shared_type(module, state, "syncyte._core.SharedTuple", tuple_slots, Py_TPFLAGS_SEQUENCE);
    state.shared_named_tuple = make_shared_type(module, state, "syncyte._core.SharedNamedTuple",
                                                named_tuple_slots, Py_TPFLAGS_SEQUENCE);
    return state.shared_list == nullptr || state.shared_tuple == nullptr ||
                   state.shared_named_tuple == nullptr
               ? -1
               : 0;
}

}  // namespace syncyte::python
