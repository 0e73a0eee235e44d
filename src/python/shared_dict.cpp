// Shared dicts.
#include "python/reference.h"
#include "python/shared.h"

namespace syncyte::python {

namespace {

std::span<const Entry> entries_of(PyObject* self) { return node_entries(*as_shared(self)->node); }

Py_ssize_t length(PyObject* self) { return static_cast<Py_ssize_t>(as_shared(self)->node->count); }

// nullptr: no such key, or a Python error is set.
const Entry* lookup(PyObject* self, PyObject* key) {
    const Py_hash_t hash = PyObject_Hash(key);
    if (hash == -1) return nullptr;
    return find_entry(*as_shared(self)->node, hash,
                      [&](Slot slot) { return element_equals(self, slot, key); });
}

PyObject* subscript(PyObject* self, PyObject* key) {
    const Entry* entry = lookup(self, key);
    if (entry != nullptr) return read_element(self, entry->value);
    if (PyErr_Occurred() == nullptr) {
        // In a tuple, or a key that is one would become the exception's arguments.
        const Reference args = Reference::adopt(PyTuple_Pack(1, key));
        if (args) PyErr_SetObject(PyExc_KeyError, args.get());
    }
    return nullptr;
}

int contains(PyObject* self, PyObject* key) {
    if (lookup(self, key) != nullptr) return 1;
    return PyErr_Occurred() != nullptr ? -1 : 0;
}

PyObject* get(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    if (count < 1 || count > 2) {
        return PyErr_Format(PyExc_TypeError, "get() takes 1 or 2 arguments, got %zd", count);
    }
    const Entry* entry = lookup(self, args[0]);
    if (entry != nullptr) return read_element(self, entry->value);
    if (PyErr_Occurred() != nullptr) return nullptr;
    return count == 2 ? Py_NewRef(args[1]) : Py_NewRef(Py_None);
}

PyObject* make_view(PyObject* self, Py_ssize_t which) {
    ModuleState* state = state_of_type(Py_TYPE(self));
    if (state == nullptr) return nullptr;
    const Reference type = Reference::adopt(PySequence_GetItem(state->shared_views, which));
    return type ? PyObject_CallOneArg(type.get(), self) : nullptr;
}
PyObject* keys(PyObject* self, PyObject* /*unused*/) { return make_view(self, 0); }
PyObject* values(PyObject* self, PyObject* /*unused*/) { return make_view(self, 1); }
PyObject* items(PyObject* self, PyObject* /*unused*/) { return make_view(self, 2); }

PyObject* iter(PyObject* self) {
    ModuleState* state = state_of_type(Py_TYPE(self));
    return state == nullptr ? nullptr : iterate(*state, self, Part::kKeys);
}

PyObject* reversed(PyObject* self, PyObject* /*unused*/) {
    ModuleState* state = state_of_type(Py_TYPE(self));
    return state == nullptr ? nullptr : iterate(*state, self, Part::kKeys, true);
}

// The other's value for a key: 1 and a new reference, 0, or -1 with a Python error set.
int value_of(PyObject* other, bool shared, PyObject* key, PyObject** value) {
    if (!shared) return PyDict_GetItemRef(other, key, value);
    const Entry* entry = lookup(other, key);
    if (entry == nullptr) return PyErr_Occurred() != nullptr ? -1 : 0;
    *value = read_element(other, entry->value);
    return *value == nullptr ? -1 : 1;
}

int same_contents(PyObject* self, PyObject* other, bool shared) {
    if (shared && as_shared(self)->node == as_shared(other)->node) return 1;
    if ((shared ? length(other) : PyDict_GET_SIZE(other)) != length(self)) return 0;
    for (const Entry& entry : entries_of(self)) {
        const Reference key = Reference::adopt(read_element(self, entry.key));
        PyObject* found = nullptr;
        const int there = key ? value_of(other, shared, key.get(), &found) : -1;
        if (there <= 0) return there;
        const Reference value = Reference::adopt(found);
        const int equal = element_equals(self, entry.value, value.get());
        if (equal <= 0) return equal;
    }
    return 1;
}

PyObject* compare(PyObject* self, PyObject* other, int operation) {
    ModuleState* state = state_of_type(Py_TYPE(self));
    if (state == nullptr) return nullptr;
    const bool shared = Py_TYPE(other) == reinterpret_cast<PyTypeObject*>(state->shared_dict);
    if ((operation != Py_EQ && operation != Py_NE) || (!shared && PyDict_Check(other) == 0)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    if (Py_EnterRecursiveCall(" while comparing shared objects") != 0) return nullptr;
    const int same = same_contents(self, other, shared);
    Py_LeaveRecursiveCall();
    return same < 0 ? nullptr : PyBool_FromLong((same != 0) == (operation == Py_EQ) ? 1 : 0);
}

// Of the pairs, in whatever order.
Py_hash_t hash(PyObject* self) {
    ModuleState* state = state_of_type(Py_TYPE(self));
    const Reference pairs =
        state == nullptr ? Reference() : Reference::adopt(iterate(*state, self, Part::kPairs));
    const Reference set = pairs ? Reference::adopt(PyFrozenSet_New(pairs.get())) : Reference();
    return set ? PyObject_Hash(set.get()) : -1;
}

PyMethodDef methods[] = {
    {"get", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(get)), METH_FASTCALL,
     "get(key, default=None, /)\n--\n\nThe value for key, or the default."},
    {"keys", keys, METH_NOARGS, "keys()\n--\n\nA set-like view of the keys."},
    {"values", values, METH_NOARGS, "values()\n--\n\nA view of the values."},
    {"items", items, METH_NOARGS, "items()\n--\n\nA set-like view of the (key, value) pairs."},
    {"__reversed__", reversed, METH_NOARGS, "The keys from the last to the first."},
    {},
};

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char*>("A frozen dict: a Mapping equal to the dict it was made of.")},
    {Py_tp_methods, methods},
    {Py_tp_iter, reinterpret_cast<void*>(iter)},
    {Py_tp_richcompare, reinterpret_cast<void*>(compare)},
    {Py_tp_hash, reinterpret_cast<void*>(within_recursion<hash>)},
    {Py_sq_contains, reinterpret_cast<void*>(contains)},
    {Py_mp_length, reinterpret_cast<void*>(length)},
    {Py_mp_subscript, reinterpret_cast<void*>(subscript)},
    {0, nullptr},
};

}  // namespace

int register_shared_dict(PyObject* module, ModuleState& state) {
    state.shared_dict =
        make_shared_type(module, state, "syncyte._core.SharedDict", slots, Py_TPFLAGS_MAPPING);
    return state.shared_dict == nullptr ? -1 : 0;
}

}  // namespace syncyte::python
