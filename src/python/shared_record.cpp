// Shared instances of dataclasses: their fields, by name.
#include <algorithm>
#include <cstring>

#include "python/reference.h"
#include "python/shared.h"

namespace syncyte::python {

namespace {

const NodeHeader& type_node(const Graph& graph, const NodeHeader& record) {
    return *graph.at<NodeHeader>(std::size_t{record.type} * 8);
}

// Module, qualified name and fields' names, which follow each other in a kRecordType.
Slot type_slot(const Graph& graph, const NodeHeader& record, std::size_t index) {
    return reinterpret_cast<const Slot*>(&type_node(graph, record) + 1)[index];
}

PyObject* read_name(const Graph& graph, Slot slot) {
    if (slot.kind() == Slot::Kind::kShortText) {
        char text[Slot::kShortest];
        slot.short_characters(text);
        return PyUnicode_FromStringAndSize(text, static_cast<Py_ssize_t>(slot.short_length()));
    }
    const NodeHeader& node = graph.node(slot);
    return PyUnicode_FromKindAndData(std::max<int>(node.width, PyUnicode_1BYTE_KIND), node_characters(node),
                                     static_cast<Py_ssize_t>(node.count));
}

PyObject* attribute(PyObject* self, PyObject* name) {
    const SharedObject* shared = as_shared(self);
    const Py_ssize_t index = field_index(*shared->graph, *shared->node, name);
    if (index >= 0) return read_element(self, node_slots(*shared->node)[static_cast<std::size_t>(index)]);
    return index == -1 ? PyObject_GenericGetAttr(self, name) : nullptr;
}

// Whether `type` goes by the name of the record's class.
int is_class(const Graph& graph, const NodeHeader& record, PyTypeObject* type) {
    const Reference module = Reference::adopt(read_name(graph, type_slot(graph, record, 0)));
    const Reference name =
        module ? Reference::adopt(read_name(graph, type_slot(graph, record, 1))) : Reference();
    if (!name) return -1;
    PyObject* found = nullptr;
    if (PyObject_GetOptionalAttrString(reinterpret_cast<PyObject*>(type), "__module__", &found) < 0)
        return -1;
    const Reference their_module = Reference::adopt(found);
    const Reference their_name = Reference::adopt(PyType_GetQualName(type));
    if (!their_name) return -1;
    if (!their_module) return 0;
    const int same = PyObject_RichCompareBool(name.get(), their_name.get(), Py_EQ);
    return same <= 0 ? same : PyObject_RichCompareBool(module.get(), their_module.get(), Py_EQ);
}

// Of two records of one graph or two.
int same_class(const Graph& a, const NodeHeader& record, const Graph& b, const NodeHeader& other) {
    const NodeHeader& mine = type_node(a, record);
    const NodeHeader& theirs = type_node(b, other);
    if (&mine == &theirs) return 1;
    if (mine.count != theirs.count) return 0;
    for (std::size_t i = 0; i < mine.count + 2; ++i) {
        const Reference left = Reference::adopt(read_name(a, type_slot(a, record, i)));
        const Reference right = left ? Reference::adopt(read_name(b, type_slot(b, other, i))) : Reference();
        const int same = right ? PyObject_RichCompareBool(left.get(), right.get(), Py_EQ) : -1;
        if (same <= 0) return same;
    }
    return 1;
}

int same_fields(PyObject* self, PyObject* other, bool shared) {
    const SharedObject* mine = as_shared(self);
    const int same =
        shared ? same_class(*mine->graph, *mine->node, *as_shared(other)->graph, *as_shared(other)->node)
               : is_class(*mine->graph, *mine->node, Py_TYPE(other));
    if (same <= 0) return same;
    const std::span<const Slot> slots = node_slots(*mine->node);
    for (std::size_t i = 0; i < slots.size(); ++i) {
        Reference theirs;
        if (shared) {
            theirs = Reference::adopt(read_element(other, node_slots(*as_shared(other)->node)[i]));
        } else {
            const Reference name =
                Reference::adopt(read_name(*mine->graph, type_slot(*mine->graph, *mine->node, i + 2)));
            if (name) theirs = Reference::adopt(PyObject_GetAttr(other, name.get()));
        }
        const int equal = theirs ? element_equals(self, slots[i], theirs.get()) : -1;
        if (equal <= 0) return equal;
    }
    return 1;
}

PyObject* compare(PyObject* self, PyObject* other, int operation) {
    ModuleState* state = state_of_type(Py_TYPE(self));
    if (state == nullptr) return nullptr;
    const bool shared = Py_TYPE(other) == reinterpret_cast<PyTypeObject*>(state->shared_record);
    if (operation != Py_EQ && operation != Py_NE) Py_RETURN_NOTIMPLEMENTED;
    if (Py_EnterRecursiveCall(" while comparing shared objects") != 0) return nullptr;
    const int same = same_fields(self, other, shared);
    Py_LeaveRecursiveCall();
    return same < 0 ? nullptr : PyBool_FromLong((same != 0) == (operation == Py_EQ) ? 1 : 0);
}

// As a frozen dataclass has it.
Py_hash_t hash(PyObject* self) {
    const Reference fields = Reference::adopt(shallow_tuple(self));
    return fields ? PyObject_Hash(fields.get()) : -1;
}

PyObject* dir(PyObject* self, PyObject* /*unused*/) {
    const SharedObject* shared = as_shared(self);
    Reference names = Reference::adopt(
        PyObject_CallMethod(reinterpret_cast<PyObject*>(&PyBaseObject_Type), "__dir__", "O", self));
    for (std::size_t i = 0; names && i < shared->node->count; ++i) {
        const Reference name =
            Reference::adopt(read_name(*shared->graph, type_slot(*shared->graph, *shared->node, i + 2)));
        if (!name || PyList_Append(names.get(), name.get()) < 0) return nullptr;
    }
    return names.leak();
}

PyMethodDef methods[] = {
    {"__dir__", dir, METH_NOARGS, "Names of attributes, the fields included."},
    {},
};

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char*>("A frozen instance of a dataclass: its fields, by name.")},
    {Py_tp_methods, methods},
    {Py_tp_getattro, reinterpret_cast<void*>(attribute)},
    {Py_tp_richcompare, reinterpret_cast<void*>(compare)},
    {Py_tp_hash, reinterpret_cast<void*>(within_recursion<hash>)},
    {0, nullptr},
};

}  // namespace

Py_ssize_t field_index(const Graph& graph, const NodeHeader& record, PyObject* name) {
    Py_ssize_t length = 0;
    const char* text = PyUnicode_Check(name) != 0 ? PyUnicode_AsUTF8AndSize(name, &length) : nullptr;
    if (text == nullptr) {
        PyErr_Clear();  // not text, or a lone surrogate: no field has such a name
        return -1;
    }
    const auto size = static_cast<std::size_t>(length);
    const Slot as_short =
        size <= Slot::kShortest && PyUnicode_IS_ASCII(name) ? Slot::short_text(text, size) : Slot();
    for (std::size_t i = 0; i < record.count; ++i) {
        const Slot field = type_slot(graph, record, i + 2);
        if (field.kind() == Slot::Kind::kShortText) {
            if (field == as_short) return static_cast<Py_ssize_t>(i);
            continue;
        }
        const NodeHeader& node = graph.node(field);
        if (node.width == 0 && PyUnicode_IS_ASCII(name)) {
            if (node.count == size && std::memcmp(node_characters(node), text, size) == 0) {
                return static_cast<Py_ssize_t>(i);
            }
        } else if (node.width != 0 && !PyUnicode_IS_ASCII(name)) {
            const Reference known = Reference::adopt(read_name(graph, field));
            if (!known) return -2;
            if (PyUnicode_Equal(known.get(), name) == 1) return static_cast<Py_ssize_t>(i);
        }
    }
    return -1;
}

PyObject* record_name(const Graph& graph, const NodeHeader& record, std::size_t index) {
    return read_name(graph, type_slot(graph, record, index));
}

PyObject* record_class(const Graph& graph, const NodeHeader& record) {
    const Reference module = Reference::adopt(record_name(graph, record, 0));
    const Reference path = module ? Reference::adopt(record_name(graph, record, 1)) : Reference();
    if (!path) return nullptr;
    Reference found = Reference::adopt(PyImport_Import(module.get()));
    const Reference dot = Reference::adopt(PyUnicode_FromString("."));
    const Reference steps =
        found && dot ? Reference::adopt(PyUnicode_Split(path.get(), dot.get(), -1)) : Reference();
    for (Py_ssize_t i = 0; steps && found && i < PyList_GET_SIZE(steps.get()); ++i) {
        found = Reference::adopt(PyObject_GetAttr(found.get(), PyList_GET_ITEM(steps.get(), i)));
    }
    if (steps && found && PyType_Check(found.get())) return found.leak();
    PyObject* cause = PyErr_GetRaisedException();
    PyErr_Format(PyExc_TypeError,
                 "cannot thaw an instance of %U.%U: this interpreter cannot import that class", module.get(),
                 path.get());
    if (cause != nullptr) {
        PyObject* error = PyErr_GetRaisedException();
        PyException_SetCause(error, cause);
        PyErr_SetRaisedException(error);
    }
    return nullptr;
}

int register_shared_record(PyObject* module, ModuleState& state) {
    state.shared_record = make_shared_type(module, state, "syncyte._core.SharedRecord", slots, 0);
    return state.shared_record == nullptr ? -1 : 0;
}

}  // namespace syncyte::python
