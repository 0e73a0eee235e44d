#include "python/shared.h"

#include <algorithm>
#include <cstring>

#include "python/reference.h"
#include "python/stdlib_doors.h"

namespace syncyte::python {

namespace {

// Which type of object a container is read as.
PyObject* type_for(const ModuleState& state, NodeKind kind) {
    switch (kind) {
        case NodeKind::kList: return state.shared_list;
        case NodeKind::kTuple: return state.shared_tuple;
        case NodeKind::kNamedTuple: return state.shared_named_tuple;
        case NodeKind::kDict: return state.shared_dict;
        case NodeKind::kSet:
        case NodeKind::kFrozenSet: return state.shared_set;
        default: return state.shared_record;
    }
}

// The package's Python half makes the types known to collections.abc, when the first object appears.
bool introduce(ModuleState& state) {
    if (state.shared_views != nullptr) return true;
    const Reference module = Reference::adopt(PyImport_ImportModule("syncyte._shared"));
    if (!module) return false;
    state.shared_views = PyObject_GetAttrString(module.get(), "views");
    return state.shared_views != nullptr;
}

PyObject* wrap_shared(ModuleState& state, Ref<Handle> handle) {
    if (!introduce(state)) return nullptr;
    const auto& shared = static_cast<const Shared&>(*handle);
    const Graph* graph = &shared.graph();
    const NodeHeader* node = &shared.node();
    auto* type = reinterpret_cast<PyTypeObject*>(type_for(state, node->kind));
    PyObject* self = new_handle_object(type, std::move(handle));
    if (self == nullptr) return nullptr;
    as_shared(self)->graph = graph;
    as_shared(self)->node = node;
    return self;
}

PyObject* read_text(std::uint8_t width, const char* characters, std::size_t length) {
    if (length <= 1) [[unlikely]] {
        return PyUnicode_FromKindAndData(std::max<int>(width, PyUnicode_1BYTE_KIND), characters,
                                         static_cast<Py_ssize_t>(length));
    }
    constexpr Py_UCS4 kLargest[] = {0x7f, 0xff, 0xffff, 0, 0x10ffff};
    PyObject* text = PyUnicode_New(static_cast<Py_ssize_t>(length), kLargest[width]);
    if (text != nullptr) {
        std::memcpy(PyUnicode_DATA(text), characters, length * std::max<std::size_t>(width, 1));
    }
    return text;
}

PyObject* read_node(ModuleState& state, const Ref<const Graph>& graph, Slot slot) {
    const NodeHeader& node = graph->node(slot);
    const char* data = node_characters(node);
    switch (node.kind) {
        case NodeKind::kText: return read_text(node.width, data, node.count);
        case NodeKind::kBytes:
        case NodeKind::kByteArray:
            return PyBytes_FromStringAndSize(data, static_cast<Py_ssize_t>(node.count));
        case NodeKind::kBigInt:
            return PyLong_FromNativeBytes(data, node.count, Py_ASNATIVEBYTES_LITTLE_ENDIAN);
        case NodeKind::kComplex: {
            const auto* parts = reinterpret_cast<const double*>(data);
            return PyComplex_FromDoubles(parts[0], parts[1]);
        }
        case NodeKind::kHandle: return wrap_handle(state, graph->handle(node.count));
        default: return wrap_shared(state, make_ref<Shared>(graph, slot));
    }
}

// What all shared objects have.

PyObject* thaw_method(PyObject* self, PyObject* /*unused*/) {
    ModuleState* state = state_of_type(Py_TYPE(self));
    const auto& shared = static_cast<const Shared&>(*as_shared(self)->head.handle);
    return state == nullptr ? nullptr : thaw(*state, shared.graph(), shared.slot());
}

PyObject* repr(PyObject* self) {
    ModuleState* state = state_of_type(Py_TYPE(self));
    if (state == nullptr) return nullptr;
    const auto& shared = static_cast<const Shared&>(*as_shared(self)->head.handle);
    const Reference text = Reference::adopt(describe(*state, shared.graph(), shared.slot()));
    return text ? PyUnicode_FromFormat("syncyte.share(%U)", text.get()) : nullptr;
}

PyObject* get_graph_bytes(PyObject* self, void* /*unused*/) {
    return PyLong_FromSize_t(as_shared(self)->graph->size());
}

PyMethodDef methods[] = {
    {"thaw", thaw_method, METH_NOARGS,
     "thaw()\n--\n\nA plain, independent copy: lists where lists were shared, instances where dataclasses "
     "were."},
    {},
};

PyGetSetDef properties[] = {
    {"nbytes", get_graph_bytes, nullptr,
     "Bytes of the whole shared structure this is part of, once for all interpreters.", nullptr},
    {},
};

PyObject* share_function(PyObject* module, PyObject* object) { return share(state_of(module), object); }

PyObject* iterate_function(PyObject* module, PyObject* args) {
    PyObject* self = nullptr;
    int part = 0;
    if (!PyArg_ParseTuple(args, "Oi:_iterate", &self, &part)) return nullptr;
    ModuleState& state = state_of(module);
    const Shared* shared = shared_of(state, self);
    if (shared == nullptr || shared->node().kind != NodeKind::kDict || part < 1 || part > 3) {
        PyErr_SetString(PyExc_TypeError, "_iterate takes a shared dict and 1, 2 or 3");
        return nullptr;
    }
    return iterate(state, self, static_cast<Part>(part));
}

PyMethodDef functions[] = {
    {"_iterate", iterate_function, METH_VARARGS,
     "Iterates over keys (1), values (2) or pairs (3) of a shared dict."},
    {"share", share_function, METH_O,
     "share(object, /)\n--\n\n"
     "A frozen copy of a structure that every interpreter reads in place: passing it costs the same however "
     "large it "
     "is.\n\nNone, bool, int, float, complex, str, bytes, tuple, list, dict, set and frozenset, dataclasses "
     "and "
     "namedtuples\n(by field), arrays (copied into a frozen SharedBuffer) and syncyte's own objects, nested "
     "as they "
     "come. The\nresult is a Mapping, Sequence or Set equal to the original, or has its fields; thaw() makes "
     "plain "
     "objects.\nTypeError for any other type."},
    {},
};

}  // namespace

PyObject* read_slot(ModuleState& state, const Ref<const Graph>& graph, Slot slot) {
    switch (slot.kind()) {
        case Slot::Kind::kInteger: return PyLong_FromLongLong(slot.integer());
        case Slot::Kind::kShortText: {
            char text[Slot::kShortest];
            slot.short_characters(text);
            return read_text(0, text, slot.short_length());
        }
        case Slot::Kind::kFloat: return PyFloat_FromDouble(graph->real(slot));
        case Slot::Kind::kConstant:
            if (slot.is_none()) Py_RETURN_NONE;
            return PyBool_FromLong(slot.is_true() ? 1 : 0);
        case Slot::Kind::kNode: break;
    }
    return read_node(state, graph, slot);
}

PyObject* read_element(PyObject* self, Slot slot) {
    ModuleState* state = state_of_type(Py_TYPE(self));
    if (state == nullptr) return nullptr;
    return read_slot(*state, static_cast<const Shared&>(*as_shared(self)->head.handle).owner(), slot);
}

namespace {

// Of text, against an exact str.
int text_equals(const Graph& graph, Slot slot, PyObject* other) {
    const std::uint8_t width =
        PyUnicode_IS_ASCII(other) ? 0 : static_cast<std::uint8_t>(PyUnicode_KIND(other));
    const auto length = static_cast<std::size_t>(PyUnicode_GET_LENGTH(other));
    const auto* characters = static_cast<const char*>(PyUnicode_DATA(other));
    if (slot.kind() == Slot::Kind::kShortText) {
        return width == 0 && length <= Slot::kShortest && Slot::short_text(characters, length) == slot ? 1
                                                                                                       : 0;
    }
    const NodeHeader& node = graph.node(slot);
    return node.width == width && node.count == length &&
                   std::memcmp(node_characters(node), characters, length * std::max<std::size_t>(width, 1)) ==
                       0
               ? 1
               : 0;
}

// Of a tuple, against an exact tuple.
int tuple_equals(PyObject* self, const NodeHeader& node, PyObject* other) {
    if (static_cast<Py_ssize_t>(node.count) != PyTuple_GET_SIZE(other)) return 0;
    if (Py_EnterRecursiveCall(" while comparing shared objects") != 0) return -1;
    int equal = 1;
    for (std::size_t i = 0; equal > 0 && i < node.count; ++i) {
        equal =
            element_equals(self, node_slots(node)[i], PyTuple_GET_ITEM(other, static_cast<Py_ssize_t>(i)));
    }
    Py_LeaveRecursiveCall();
    return equal;
}

}  // namespace

// What a key most often is needs no object made of it.
int element_equals(PyObject* self, Slot slot, PyObject* other) {
    const Graph& graph = *as_shared(self)->graph;
    const bool node = slot.kind() == Slot::Kind::kNode;
    const NodeKind kind = node ? graph.node(slot).kind : NodeKind::kHandle;
    if (PyUnicode_CheckExact(other) != 0) {
        if (slot.kind() == Slot::Kind::kShortText || kind == NodeKind::kText)
            return text_equals(graph, slot, other);
        if (!node) return 0;
    } else if (slot.kind() == Slot::Kind::kInteger && PyLong_CheckExact(other) != 0) {
        int overflow = 0;
        const long long value = PyLong_AsLongLongAndOverflow(other, &overflow);
        return overflow == 0 && value == slot.integer() ? 1 : 0;
    } else if (node && kind == NodeKind::kTuple && PyTuple_CheckExact(other) != 0) {
        return tuple_equals(self, graph.node(slot), other);
    }
    const Reference element = Reference::adopt(read_element(self, slot));
    return element ? PyObject_RichCompareBool(element.get(), other, Py_EQ) : -1;
}

PyObject* make_shared_type(PyObject* module, ModuleState& state, const char* name, PyType_Slot* slots,
                           unsigned long flags) {
    PyType_Spec spec = {
        .name = name,
        .basicsize = sizeof(SharedObject),
        .itemsize = 0,
        .flags = static_cast<unsigned>(Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE |
                                       Py_TPFLAGS_DISALLOW_INSTANTIATION | flags),
        .slots = slots,
    };
    Reference type = Reference::adopt(PyType_FromModuleAndSpec(module, &spec, state.shared_type));
    if (!type || PyModule_AddType(module, reinterpret_cast<PyTypeObject*>(type.get())) < 0 ||
        open_stdlib_doors(reinterpret_cast<PyTypeObject*>(type.get())) < 0) {
        return nullptr;
    }
    return type.leak();
}

int register_shared(PyObject* module, ModuleState& state) {
    PyType_Slot slots[] = {
        {Py_tp_doc, const_cast<char*>("Part of a frozen structure that every interpreter reads in place.")},
        {Py_tp_repr, reinterpret_cast<void*>(repr)},
        {Py_tp_methods, methods},
        {Py_tp_getset, properties},
        {0, nullptr},
    };
    PyType_Spec spec = {
        .name = "syncyte._core.Shared",
        .basicsize = sizeof(SharedObject),
        .itemsize = 0,
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION |
                 Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };
    state.shared_type = PyType_FromModuleAndSpec(module, &spec, state.handle_type);
    if (state.shared_type == nullptr || PyModule_AddObjectRef(module, "Shared", state.shared_type) < 0 ||
        PyModule_AddFunctions(module, functions) < 0) {
        return -1;
    }
    set_wrap(state, HandleKind::kShared, wrap_shared);
    return register_shared_iterator(module, state) < 0 || register_shared_sequences(module, state) < 0 ||
                   register_shared_dict(module, state) < 0 || register_shared_set(module, state) < 0 ||
                   register_shared_record(module, state) < 0
               ? -1
               : 0;
}

}  // namespace syncyte::python
