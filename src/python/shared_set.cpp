// Shared sets and frozensets: both are read as one immutable type.
#include "python/reference.h"
#include "python/shared.h"

namespace syncyte::python {

namespace {

Py_ssize_t length(PyObject* self) { return static_cast<Py_ssize_t>(as_shared(self)->node->count); }

int contains(PyObject* self, PyObject* key) {
    const Py_hash_t hash = PyObject_Hash(key);
    if (hash == -1) return -1;
    const Entry* entry =
        find_entry(*as_shared(self)->node, hash, [&](Slot slot) { return element_equals(self, slot, key); });
    if (entry != nullptr) return 1;
    return PyErr_Occurred() != nullptr ? -1 : 0;
}

PyObject* iter(PyObject* self) {
    ModuleState* state = state_of_type(Py_TYPE(self));
    return state == nullptr ? nullptr : iterate(*state, self, Part::kKeys);
}

PyObject* compare(PyObject* self, PyObject* other, int operation) {
    ModuleState* state = state_of_type(Py_TYPE(self));
    if (state == nullptr) return nullptr;
    const bool shared = Py_TYPE(other) == reinterpret_cast<PyTypeObject*>(state->shared_set);
    if (!shared && PyAnySet_Check(other) == 0) Py_RETURN_NOTIMPLEMENTED;
    const Reference left = Reference::adopt(shallow_set(self));
    const Reference right = left ? Reference::adopt(plain_set(*state, other)) : Reference();
    return right ? PyObject_RichCompare(left.get(), right.get(), operation) : nullptr;
}

Py_hash_t hash(PyObject* self) {
    const Reference plain = Reference::adopt(shallow_set(self));
    return plain ? PyObject_Hash(plain.get()) : -1;
}

// A binary operator: either side may be the shared one.
template <PyObject* (*operation)(PyObject*, PyObject*)>
PyObject* combine(PyObject* left, PyObject* right) {
    // One of the two is ours, and both types' state is this interpreter's.
    PyObject* ours = PyType_GetModuleByDef(Py_TYPE(left), &module_def);
    if (ours == nullptr) {
        PyErr_Clear();
        ours = PyType_GetModuleByDef(Py_TYPE(right), &module_def);
        if (ours == nullptr) return nullptr;
    }
    const ModuleState& state = state_of(ours);
    for (PyObject* side : {left, right}) {
        if (PyAnySet_Check(side) == 0 && Py_TYPE(side) != reinterpret_cast<PyTypeObject*>(state.shared_set)) {
            Py_RETURN_NOTIMPLEMENTED;
        }
    }
    const Reference a = Reference::adopt(plain_set(state, left));
    const Reference b = a ? Reference::adopt(plain_set(state, right)) : Reference();
    return b ? operation(a.get(), b.get()) : nullptr;
}

// union(), issubset(), ...: those of frozenset.
template <std::size_t N>
struct Name {
    char text[N];
    constexpr Name(const char (&from)[N]) {  // NOLINT(google-explicit-constructor)
        for (std::size_t i = 0; i < N; ++i) text[i] = from[i];
    }
};
template <Name name>
PyObject* delegate(PyObject* self, PyObject* args) {
    const Reference plain = Reference::adopt(shallow_set(self));
    const Reference method =
        plain ? Reference::adopt(PyObject_GetAttrString(plain.get(), name.text)) : Reference();
    return method ? PyObject_CallObject(method.get(), args) : nullptr;
}

PyMethodDef methods[] = {
    {"isdisjoint", delegate<"isdisjoint">, METH_VARARGS, "As of frozenset."},
    {"issubset", delegate<"issubset">, METH_VARARGS, "As of frozenset."},
    {"issuperset", delegate<"issuperset">, METH_VARARGS, "As of frozenset."},
    {"union", delegate<"union">, METH_VARARGS, "As of frozenset; the result is a plain frozenset."},
    {"intersection", delegate<"intersection">, METH_VARARGS,
     "As of frozenset; the result is a plain frozenset."},
    {"difference", delegate<"difference">, METH_VARARGS, "As of frozenset; the result is a plain frozenset."},
    {"symmetric_difference", delegate<"symmetric_difference">, METH_VARARGS,
     "As of frozenset; the result is a plain frozenset."},
    {},
};

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char*>("A frozen set: a Set equal to the set or frozenset it was made of.")},
    {Py_tp_methods, methods},
    {Py_tp_iter, reinterpret_cast<void*>(iter)},
    {Py_tp_richcompare, reinterpret_cast<void*>(compare)},
    {Py_tp_hash, reinterpret_cast<void*>(within_recursion<hash>)},
    {Py_sq_length, reinterpret_cast<void*>(length)},
    {Py_sq_contains, reinterpret_cast<void*>(contains)},
    {Py_nb_and, reinterpret_cast<void*>(combine<PyNumber_And>)},
    {Py_nb_or, reinterpret_cast<void*>(combine<PyNumber_Or>)},
    {Py_nb_xor, reinterpret_cast<void*>(combine<PyNumber_Xor>)},
    {Py_nb_subtract, reinterpret_cast<void*>(combine<PyNumber_Subtract>)},
    {0, nullptr},
};

}  // namespace

PyObject* shallow_set(PyObject* self) {
    const Reference elements = Reference::adopt(iter(self));
    return elements ? PyFrozenSet_New(elements.get()) : nullptr;
}

PyObject* plain_set(const ModuleState& state, PyObject* object) {
    if (Py_TYPE(object) == reinterpret_cast<PyTypeObject*>(state.shared_set)) return shallow_set(object);
    return Py_NewRef(object);
}

int register_shared_set(PyObject* module, ModuleState& state) {
    state.shared_set = make_shared_type(module, state, "syncyte._core.SharedSet", slots, 0);
    return state.shared_set == nullptr ? -1 : 0;
}

}  // namespace syncyte::python
