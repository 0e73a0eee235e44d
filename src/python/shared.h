// syncyte.share() and the types its result looks like: Mapping, Sequence, Set and records that read the
// frozen graph in place.
#pragma once

#include <Python.h>

#include <cstdint>

#include "python/handles.h"
#include "python/state.h"
#include "value/graph.h"

namespace syncyte::python {

// An instance of any of them. The last two members repeat what the handle (a Shared) knows, one step nearer.
struct SharedObject {
    HandleObject head;
    const Graph* graph;
    const NodeHeader* node;
};

inline SharedObject* as_shared(PyObject* object) { return reinterpret_cast<SharedObject*>(object); }

// The container `object` stands for; nullptr (no error set) when it is not a shared object.
inline const Shared* shared_of(const ModuleState& state, PyObject* object) {
    const Handle* handle = handle_of(state, object);
    return handle != nullptr && handle->kind() == HandleKind::kShared ? static_cast<const Shared*>(handle)
                                                                      : nullptr;
}

// A frozen copy of `object`, or what it is when that is immutable or shared already. nullptr with a Python
// error set: TypeError naming the type and the place of what cannot be shared, ValueError for cycles and too
// much depth.
PyObject* share(ModuleState& state, PyObject* object);

// What `slot` of `graph` is in Python: a plain object, or one that reads the graph. A new reference.
PyObject* read_slot(ModuleState& state, const Ref<const Graph>& graph, Slot slot);
// The same for an element of `self`, a shared object.
PyObject* read_element(PyObject* self, Slot slot);
// Whether the element equals `other`: 1, 0, or -1 with a Python error set.
int element_equals(PyObject* self, Slot slot, PyObject* other);

// Plain objects, all the way down: lists where lists were.
PyObject* thaw(ModuleState& state, const Graph& graph, Slot slot);
// As thaw() would print, without making it.
PyObject* describe(ModuleState& state, const Graph& graph, Slot slot);

// The class of a record: imported by name. nullptr with a Python error set.
PyObject* record_class(const Graph& graph, const NodeHeader& record);
// Its module (0), qualified name (1), or the name of field index - 2.
PyObject* record_name(const Graph& graph, const NodeHeader& record, std::size_t index);
// Index of the record's field called `name`; -1 when there is none, -2 with a Python error set.
Py_ssize_t field_index(const Graph& graph, const NodeHeader& record, PyObject* name);

// What an iterator gives: elements of a sequence, keys (of a set too), values, or pairs.
enum class Part : std::uint8_t { kElements, kKeys, kValues, kPairs };
PyObject* iterate(ModuleState& state, PyObject* self, Part part, bool backwards = false);

// Plain containers whose elements may still be shared objects: what comparing and hashing work on.
PyObject* shallow_tuple(PyObject* self);
PyObject* shallow_set(PyObject* self);
// A new reference to `object`, or to its shallow_set() when it is a shared set.
PyObject* plain_set(const ModuleState& state, PyObject* object);

// One of the types, each in its own file, derived from what they have in common; a new reference.
PyObject* make_shared_type(PyObject* module, ModuleState& state, const char* name, PyType_Slot* slots,
                           unsigned long flags);
int register_shared_iterator(PyObject* module, ModuleState& state);
int register_shared_sequences(PyObject* module, ModuleState& state);
int register_shared_dict(PyObject* module, ModuleState& state);
int register_shared_set(PyObject* module, ModuleState& state);
int register_shared_record(PyObject* module, ModuleState& state);

// share() and the members all types have; before the others.
int register_shared(PyObject* module, ModuleState& state);

// A tp_hash whose elements' hashes may lead to it again: a chain too long for the stack is a RecursionError.
template <Py_hash_t (*hash)(PyObject*)>
Py_hash_t within_recursion(PyObject* self) {
    if (Py_EnterRecursiveCall(" while hashing a shared object") != 0) return -1;
    const Py_hash_t result = hash(self);
    Py_LeaveRecursiveCall();
    return result;
}

}  // namespace syncyte::python
