// From a graph back to plain objects, and to text.
#include <string>
#include <unordered_map>
#include <utility>

#include "python/reference.h"
#include "python/shared.h"

namespace syncyte::python {

namespace {

bool is_container(const NodeHeader& node) {
    switch (node.kind) {
        case NodeKind::kTuple:
        case NodeKind::kList:
        case NodeKind::kDict:
        case NodeKind::kSet:
        case NodeKind::kFrozenSet:
        case NodeKind::kRecord:
        case NodeKind::kNamedTuple: return true;
        default: return false;
    }
}

// A structure shared earlier, inside this one.
const Shared* nested(const Graph& graph, const NodeHeader& node) {
    if (node.kind != NodeKind::kHandle) return nullptr;
    const Handle* handle = graph.handle(node.count).get();
    return handle->kind() == HandleKind::kShared ? static_cast<const Shared*>(handle) : nullptr;
}

class Thaw {
  public:
    Thaw(ModuleState& state, const Graph& graph) : state_(state), graph_(Ref<const Graph>::share(&graph)) {}

    PyObject* run(Slot slot) {
        if (slot.kind() != Slot::Kind::kNode) return read_slot(state_, graph_, slot);
        const NodeHeader& node = graph_->node(slot);
        if (node.kind == NodeKind::kByteArray) {
            return PyByteArray_FromStringAndSize(node_characters(node), static_cast<Py_ssize_t>(node.count));
        }
        const Shared* inner = nested(*graph_, node);
        if (inner == nullptr && !is_container(node)) return read_slot(state_, graph_, slot);
        const bool again = (node.flags & kNodeShared) != 0;
        if (again) {
            const auto known = made_.find(slot.place());
            if (known != made_.end()) return Py_NewRef(known->second.get());
        }
        if (Py_EnterRecursiveCall(" while thawing") != 0) return nullptr;
        PyObject* object = inner != nullptr ? thaw(state_, inner->graph(), inner->slot()) : container(node);
        Py_LeaveRecursiveCall();
        if (object != nullptr && again) made_.emplace(slot.place(), Reference::share(object));
        return object;
    }

  private:
    PyObject* container(const NodeHeader& node) {
        switch (node.kind) {
            case NodeKind::kTuple:
            case NodeKind::kList: return sequence(node, node.kind == NodeKind::kList);
            case NodeKind::kDict: return dict(node);
            case NodeKind::kSet:
            case NodeKind::kFrozenSet: return set(node);
            default: return record(node);
        }
    }

    PyObject* sequence(const NodeHeader& node, bool list) {
        const auto count = static_cast<Py_ssize_t>(node.count);
        Reference made = Reference::adopt(list ? PyList_New(count) : PyTuple_New(count));
        for (Py_ssize_t i = 0; made && i < count; ++i) {
            PyObject* element = run(node_slots(node)[static_cast<std::size_t>(i)]);
            if (element == nullptr) return nullptr;
            if (list) {
                PyList_SET_ITEM(made.get(), i, element);
            } else {
                PyTuple_SET_ITEM(made.get(), i, element);
            }
        }
        return made.leak();
    }

    PyObject* dict(const NodeHeader& node) {
        Reference made = Reference::adopt(PyDict_New());
        for (const Entry& entry : node_entries(node)) {
            if (!made) return nullptr;
            const Reference key = Reference::adopt(run(entry.key));
            const Reference value = key ? Reference::adopt(run(entry.value)) : Reference();
            if (!value || PyDict_SetItem(made.get(), key.get(), value.get()) < 0) return nullptr;
        }
        return made.leak();
    }

    PyObject* set(const NodeHeader& node) {
        Reference made =
            Reference::adopt(node.kind == NodeKind::kSet ? PySet_New(nullptr) : PyFrozenSet_New(nullptr));
        for (const Entry& entry : node_entries(node)) {
            if (!made) return nullptr;
            const Reference element = Reference::adopt(run(entry.key));
            if (!element || PySet_Add(made.get(), element.get()) < 0) return nullptr;
        }
        return made.leak();
    }

    // Without __init__: the fields are what they were, whatever it would make of them.
    PyObject* record(const NodeHeader& node) {
        const Reference type = Reference::adopt(record_class(*graph_, node));
        if (!type) return nullptr;
        const Reference fields = Reference::adopt(sequence(node, false));
        if (!fields) return nullptr;
        if (node.kind == NodeKind::kNamedTuple)
            return PyObject_CallMethod(type.get(), "_make", "(O)", fields.get());
        Reference made = Reference::adopt(
            PyObject_CallMethod(reinterpret_cast<PyObject*>(&PyBaseObject_Type), "__new__", "O", type.get()));
        for (std::size_t i = 0; made && i < node.count; ++i) {
            const Reference name = Reference::adopt(record_name(*graph_, node, i + 2));
            PyObject* value = PyTuple_GET_ITEM(fields.get(), static_cast<Py_ssize_t>(i));
            // Past a frozen dataclass's own __setattr__.
            if (!name || PyObject_GenericSetAttr(made.get(), name.get(), value) < 0) return nullptr;
        }
        return made.leak();
    }

    ModuleState& state_;
    Ref<const Graph> graph_;
    std::unordered_map<std::size_t, Reference> made_;  // what is reached from more than one place
};

class Description {
  public:
    explicit Description(ModuleState& state) : state_(state), writer_(PyUnicodeWriter_Create(0)) {}
    Description(const Description&) = delete;
    Description& operator=(const Description&) = delete;
    ~Description() { PyUnicodeWriter_Discard(writer_); }

    PyObject* finish() { return PyUnicodeWriter_Finish(std::exchange(writer_, nullptr)); }
    [[nodiscard]] bool ready() const { return writer_ != nullptr; }

    bool write(const Graph& graph, Slot slot) {
        if (slot.kind() == Slot::Kind::kNode) {
            const NodeHeader& node = graph.node(slot);
            const Shared* inner = nested(graph, node);
            if (inner != nullptr || is_container(node)) {
                if (Py_EnterRecursiveCall(" while describing a shared object") != 0) return false;
                const bool done =
                    inner != nullptr ? write(inner->graph(), inner->slot()) : container(graph, node);
                Py_LeaveRecursiveCall();
                return done;
            }
        }
        const Reference object = Reference::adopt(read_slot(state_, Ref<const Graph>::share(&graph), slot));
        return object && PyUnicodeWriter_WriteRepr(writer_, object.get()) == 0;
    }

  private:
    bool text(const char* ascii) { return PyUnicodeWriter_WriteASCII(writer_, ascii, -1) == 0; }

    bool container(const Graph& graph, const NodeHeader& node) {
        switch (node.kind) {
            case NodeKind::kList: return text("[") && slots(graph, node) && text("]");
            case NodeKind::kTuple:
                return text("(") && slots(graph, node) && text(node.count == 1 ? ",)" : ")");
            case NodeKind::kDict: return text("{") && entries(graph, node) && text("}");
            case NodeKind::kSet:
                return node.count == 0 ? text("set()") : text("{") && entries(graph, node) && text("}");
            case NodeKind::kFrozenSet:
                if (node.count == 0) return text("frozenset()");
                return text("frozenset({") && entries(graph, node) && text("})");
            default: return record(graph, node);
        }
    }

    bool slots(const Graph& graph, const NodeHeader& node) {
        bool first = true;
        for (const Slot slot : node_slots(node)) {
            if (!std::exchange(first, false) && !text(", ")) return false;
            if (!write(graph, slot)) return false;
        }
        return true;
    }

    bool entries(const Graph& graph, const NodeHeader& node) {
        bool first = true;
        for (const Entry& entry : node_entries(node)) {
            if (!std::exchange(first, false) && !text(", ")) return false;
            if (!write(graph, entry.key)) return false;
            if (node.kind == NodeKind::kDict && (!text(": ") || !write(graph, entry.value))) return false;
        }
        return true;
    }

    bool record(const Graph& graph, const NodeHeader& node) {
        for (std::size_t i = 0; i < node.count + 1; ++i) {
            const Reference name = Reference::adopt(record_name(graph, node, i + 1));
            if (!name || PyUnicodeWriter_WriteStr(writer_, name.get()) < 0) return false;
            if (i == 0) {
                if (!text("(")) return false;
                continue;
            }
            if (!text("=") || !write(graph, node_slots(node)[i - 1]) || (i < node.count && !text(", ")))
                return false;
        }
        return text(")");
    }

    ModuleState& state_;
    PyUnicodeWriter* writer_;
};

}  // namespace

PyObject* thaw(ModuleState& state, const Graph& graph, Slot slot) { return Thaw(state, graph).run(slot); }

PyObject* describe(ModuleState& state, const Graph& graph, Slot slot) {
    Description description(state);
    if (!description.ready() || !description.write(graph, slot)) return nullptr;
    return description.finish();
}

}  // namespace syncyte::python
