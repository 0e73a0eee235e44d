// share(): one walk that copies a structure into a graph.
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "python/buffer.h"
#include "python/errors.h"
#include "python/memo.h"
#include "python/reference.h"
#include "python/shared.h"
#include "value/tag.h"

namespace syncyte::python {

namespace {

// Fields of a dataclass or of a namedtuple, the same for all its instances.
struct RecordType {
    PyTypeObject* type;  // kept alive by its instances
    Slot slot;
    Reference fields;  // tuple of str
    bool named_tuple;
};

bool has_attribute(PyObject* object, const char* name) {
    PyObject* found = nullptr;
    const int there = PyObject_GetOptionalAttrString(object, name, &found);
    Py_XDECREF(found);
    return there > 0;
}

bool is_enum(PyTypeObject* type) { return has_attribute(reinterpret_cast<PyObject*>(type), "_member_map_"); }

// Whether it is one number with the buffer protocol, as numpy's are: hashable, where arrays are not.
bool is_scalar(PyObject* object) {
    if (PyMemoryView_Check(object) != 0 || Py_TYPE(object)->tp_hash == PyObject_HashNotImplemented)
        return false;
    Py_buffer view;
    if (PyObject_GetBuffer(object, &view, PyBUF_FULL_RO) < 0) {
        PyErr_Clear();
        return false;
    }
    const bool scalar = view.ndim == 0;
    PyBuffer_Release(&view);
    return scalar;
}

// Whether object.__new__() makes instances: not so where a base written in C holds something of its own.
bool made_of_fields(PyTypeObject* type) {
    while (PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE) != 0) type = type->tp_base;
    return type->tp_new == PyBaseObject_Type.tp_new;
}

// Whether a named tuple is more than its fields.
bool has_more(PyObject* object, Py_ssize_t fields) {
    if (PyTuple_GET_SIZE(object) != fields) return true;
    PyObject* found = nullptr;
    if (PyObject_GetOptionalAttrString(object, "__dict__", &found) <= 0) return PyErr_Occurred() != nullptr;
    const Reference dict = Reference::adopt(found);
    return PyDict_Check(found) == 0 || PyDict_GET_SIZE(found) > 0;
}

class Sharer {
  public:
    explicit Sharer(ModuleState& state) : state_(state) {}
    Sharer(const Sharer&) = delete;
    Sharer& operator=(const Sharer&) = delete;
    ~Sharer() {
        for (PyObject* object : kept_) Py_DECREF(object);
    }

    PyObject* run(PyObject* object);

  private:
    static constexpr std::uint64_t kInProgress = ~std::uint64_t{0};

    // `sole`: the structure holds the only reference, so the object cannot come twice.
    bool add(PyObject* object, bool sole, Slot& slot, int depth);
    bool add_once(PyObject* object, Slot& slot, int depth);
    bool add_new(PyObject* object, Slot& slot, int depth);
    bool add_integer(PyObject* object, Slot& slot);
    bool add_sequence(PyObject* object, Slot& slot, int depth);
    bool add_dict(PyObject* object, Slot& slot, int depth);
    bool add_set(PyObject* object, Slot& slot, int depth);
    bool add_other(PyObject* object, Slot& slot, int depth);
    bool add_record(PyObject* object, const RecordType& type, Slot& slot, int depth);
    bool add_buffer(PyObject* object, Slot& slot);
    const RecordType* record_type(PyTypeObject* type);
    Slot text(PyObject* object);
    bool changed(PyObject* object);
    bool refuse(PyObject* object, const char* hint = "");
    void step(const std::string& text);
    bool at_key(PyObject* key);
    void name_place();

    ModuleState& state_;
    GraphBuilder builder_;
    Memo memo_;                       // what may be met again -> its index in met_
    std::vector<std::uint64_t> met_;  // bits of its slot, or kInProgress
    std::vector<PyObject*> kept_;     // alive as long as the memo: no address may come twice
    std::vector<RecordType> types_;
    std::string path_;  // from the culprit outwards, filled while the recursion unwinds
};

inline bool Sharer::add(PyObject* object, bool sole, Slot& slot, int depth) {
    PyTypeObject* type = Py_TYPE(object);
    if (type == &PyLong_Type) return add_integer(object, slot);
    if (type == &PyFloat_Type) {
        slot = builder_.real(PyFloat_AS_DOUBLE(object));
        return true;
    }
    if (object == Py_None) {
        slot = Slot::none();
        return true;
    }
    if (type == &PyBool_Type) {
        slot = Slot::boolean(object == Py_True);
        return true;
    }
    if (type == &PyUnicode_Type && (sole || PyUnicode_GET_LENGTH(object) <= 7)) {
        slot = text(object);
        return true;
    }
    return sole ? add_new(object, slot, depth) : add_once(object, slot, depth);
}

// Whatever several places refer to is stored once.
bool Sharer::add_once(PyObject* object, Slot& slot, int depth) {
    const std::size_t index = met_.size();
    if (const std::optional<std::size_t> before = memo_.find_or_add(object, index)) {
        if (met_[*before] == kInProgress) {
            PyErr_SetString(PyExc_ValueError, "cannot share a structure that contains itself");
            return false;
        }
        slot = Slot::from_bits(met_[*before]);
        if (slot.kind() == Slot::Kind::kNode) builder_.mark_shared(slot);
        return true;
    }
    met_.push_back(kInProgress);
    kept_.push_back(Py_NewRef(object));
    if (!add_new(object, slot, depth)) return false;
    met_[index] = slot.bits();
    return true;
}

bool Sharer::add_new(PyObject* object, Slot& slot, int depth) {
    PyTypeObject* type = Py_TYPE(object);
    if (type == &PyUnicode_Type) {
        slot = text(object);
        return true;
    }
    if (type == &PyBytes_Type) {
        slot = builder_.bytes(NodeKind::kBytes, PyBytes_AS_STRING(object),
                              static_cast<std::size_t>(PyBytes_GET_SIZE(object)));
        return true;
    }
    if (type == &PyComplex_Type) {
        const Py_complex value = PyComplex_AsCComplex(object);
        slot = builder_.complex(value.real, value.imag);
        return true;
    }
    if (type == &PyByteArray_Type) {
        slot = builder_.bytes(NodeKind::kByteArray, PyByteArray_AS_STRING(object),
                              static_cast<std::size_t>(PyByteArray_GET_SIZE(object)));
        return true;
    }
    if (const Handle* handle = handle_of(state_, object)) {
        slot = builder_.handle(Ref<Handle>::share(const_cast<Handle*>(handle)));
        return true;
    }
    if (++depth > kMaxDepth) {
        PyErr_Format(PyExc_ValueError, "cannot share containers nested more than %d deep", kMaxDepth);
        return false;
    }
    if (depth > 1 && Py_EnterRecursiveCall(" while sharing") != 0) return false;
    bool done = false;
    if (type == &PyDict_Type) {
        done = add_dict(object, slot, depth);
    } else if (type == &PyList_Type || type == &PyTuple_Type) {
        done = add_sequence(object, slot, depth);
    } else if (type == &PySet_Type || type == &PyFrozenSet_Type) {
        done = add_set(object, slot, depth);
    } else {
        done = add_other(object, slot, depth);
    }
    if (depth > 1) Py_LeaveRecursiveCall();
    return done;
}

inline Slot Sharer::text(PyObject* object) {
    const std::uint8_t width =
        PyUnicode_IS_ASCII(object) ? 0 : static_cast<std::uint8_t>(PyUnicode_KIND(object));
    return builder_.text(width, PyUnicode_DATA(object),
                         static_cast<std::size_t>(PyUnicode_GET_LENGTH(object)));
}

inline bool Sharer::add_integer(PyObject* object, Slot& slot) {
    int overflow = 0;
    const auto* number = reinterpret_cast<PyLongObject*>(object);
    const long long value = PyUnstable_Long_IsCompact(number) != 0
                                ? PyUnstable_Long_CompactValue(number)
                                : PyLong_AsLongLongAndOverflow(object, &overflow);
    if (overflow == 0 && Slot::fits_integer(value)) {
        slot = Slot::integer(value);
        return true;
    }
    const Py_ssize_t size = PyLong_AsNativeBytes(object, nullptr, 0, Py_ASNATIVEBYTES_LITTLE_ENDIAN);
    if (size < 0) return false;
    std::vector<std::byte> bytes(static_cast<std::size_t>(size));
    if (PyLong_AsNativeBytes(object, bytes.data(), size, Py_ASNATIVEBYTES_LITTLE_ENDIAN) < 0) return false;
    slot = builder_.bytes(NodeKind::kBigInt, bytes.data(), bytes.size());
    return true;
}

// The loops below hold what they look at and look at sizes again: a dataclass may run code of its own.

bool Sharer::add_sequence(PyObject* object, Slot& slot, int depth) {
    const bool list = PyList_CheckExact(object) != 0;
    const Py_ssize_t count = Py_SIZE(object);
    slot = builder_.slots(list ? NodeKind::kList : NodeKind::kTuple, static_cast<std::size_t>(count));
    for (Py_ssize_t i = 0; i < count; ++i) {
        if (list && PyList_GET_SIZE(object) != count) return changed(object);
        PyObject* item = list ? PyList_GET_ITEM(object, i) : PyTuple_GET_ITEM(object, i);
        const bool sole = Py_REFCNT(item) == 1;
        const Reference held = Reference::share(item);
        Slot element;
        if (!add(item, sole, element, depth)) {
            step("[" + std::to_string(i) + "]");
            return false;
        }
        builder_.set_slot(slot, static_cast<std::size_t>(i), element);
    }
    return true;
}

bool Sharer::add_dict(PyObject* object, Slot& slot, int depth) {
    const Py_ssize_t count = PyDict_GET_SIZE(object);
    if (std::cmp_greater(count, GraphBuilder::kMaxEntries)) {
        PyErr_SetString(PyExc_OverflowError, "a shared dict holds at most 4294967294 entries");
        return false;
    }
    slot = builder_.table(NodeKind::kDict, static_cast<std::size_t>(count));
    Py_ssize_t position = 0;
    PyObject* key = nullptr;
    PyObject* value = nullptr;
    std::size_t index = 0;
    while (PyDict_Next(object, &position, &key, &value) != 0) {
        if (PyDict_GET_SIZE(object) != count || std::cmp_equal(index, count)) return changed(object);
        const bool sole_key = Py_REFCNT(key) == 1;
        const bool sole_value = Py_REFCNT(value) == 1;
        const Reference held_key = Reference::share(key);
        const Reference held_value = Reference::share(value);
        const Py_hash_t hash = PyObject_Hash(key);
        if (hash == -1) return false;
        Entry entry{.hash = hash, .key = {}, .value = {}};
        if (!add(key, sole_key, entry.key, depth)) return at_key(key);
        if (!add(value, sole_value, entry.value, depth)) return at_key(key);
        builder_.set_entry(slot, index++, entry);
    }
    if (std::cmp_not_equal(index, count)) return changed(object);
    builder_.finish_table(slot);
    return true;
}

bool Sharer::add_set(PyObject* object, Slot& slot, int depth) {
    const auto count = static_cast<std::size_t>(PySet_GET_SIZE(object));
    if (count > GraphBuilder::kMaxEntries) {
        PyErr_SetString(PyExc_OverflowError, "a shared set holds at most 4294967294 elements");
        return false;
    }
    slot = builder_.table(PySet_CheckExact(object) != 0 ? NodeKind::kSet : NodeKind::kFrozenSet, count);
    const Reference iterator = Reference::adopt(PyObject_GetIter(object));
    if (!iterator) return false;
    std::size_t index = 0;
    while (const Reference item = Reference::adopt(PyIter_Next(iterator.get()))) {
        if (index == count) return changed(object);
        Entry entry{.hash = PyObject_Hash(item.get()), .key = {}, .value = {}};
        if (entry.hash == -1) return false;
        // The iterator's reference and the set's own.
        if (!add(item.get(), Py_REFCNT(item.get()) == 2, entry.key, depth)) {
            step(" (in a set)");
            return false;
        }
        builder_.set_entry(slot, index++, entry);
    }
    if (PyErr_Occurred() != nullptr) return false;
    if (index != count) return changed(object);
    builder_.finish_table(slot);
    return true;
}

bool Sharer::add_other(PyObject* object, Slot& slot, int depth) {
    if (const RecordType* type = record_type(Py_TYPE(object))) return add_record(object, *type, slot, depth);
    if (PyErr_Occurred() != nullptr) return false;
    if (PyObject_CheckBuffer(object) != 0 && !PyBytes_Check(object) && !PyByteArray_Check(object)) {
        if (is_scalar(object)) return refuse(object, " (share its .item())");
        return add_buffer(object, slot);
    }
    return refuse(object, is_enum(Py_TYPE(object)) ? " (share its .value)" : "");
}

bool Sharer::add_record(PyObject* object, const RecordType& type, Slot& slot, int depth) {
    // Copied: add() may find more types and move this one.
    const Reference fields = Reference::share(type.fields.get());
    const bool named_tuple = type.named_tuple;
    const Py_ssize_t count = PyTuple_GET_SIZE(fields.get());
    if (named_tuple && has_more(object, count)) {
        return PyErr_Occurred() == nullptr && refuse(object, " (this one is more than its fields)");
    }
    slot = builder_.slots(named_tuple ? NodeKind::kNamedTuple : NodeKind::kRecord,
                          static_cast<std::size_t>(count), type.slot);
    for (Py_ssize_t i = 0; i < count; ++i) {
        PyObject* name = PyTuple_GET_ITEM(fields.get(), i);
        const Reference field = named_tuple ? Reference::share(PyTuple_GET_ITEM(object, i))
                                            : Reference::adopt(PyObject_GetAttr(object, name));
        Slot element;
        if (!field || !add(field.get(), false, element, depth)) {
            PyObject* pending = PyErr_GetRaisedException();
            const char* field_name = PyUnicode_AsUTF8(name);
            step(std::string(".") + (field_name == nullptr ? "?" : field_name));
            PyErr_Clear();
            PyErr_SetRaisedException(pending);
            return false;
        }
        builder_.set_slot(slot, static_cast<std::size_t>(i), element);
    }
    return true;
}

// A frozen copy, which then travels as a SharedBuffer.
bool Sharer::add_buffer(PyObject* object, Slot& slot) {
    auto* type =
        reinterpret_cast<PyObject*>(state_.handle_types[static_cast<std::size_t>(HandleKind::kBuffer)]);
    const Reference copy = Reference::adopt(PyObject_CallMethod(type, "from_buffer", "O", object));
    if (!copy) return false;
    const BufferView* view = buffer_view_of(state_, copy.get());
    check(view->buffer().freeze(), "nobody else knows a new buffer");
    slot = builder_.handle(Ref<Handle>::share(const_cast<BufferView*>(view)));
    return true;
}

// The names of the fields when `type` is a dataclass or a namedtuple; null without an error when neither.
Reference fields_of(PyTypeObject* type, bool& named_tuple) {
    auto* object = reinterpret_cast<PyObject*>(type);
    named_tuple = PyType_IsSubtype(type, &PyTuple_Type) != 0;
    PyObject* found = nullptr;
    if (named_tuple) {
        if (PyObject_GetOptionalAttrString(object, "_fields", &found) <= 0) return {};
        Reference fields = Reference::adopt(found);
        if (PyTuple_CheckExact(found) == 0 || !has_attribute(object, "_make")) return {};
        return fields;
    }
    if (PyObject_GetOptionalAttrString(object, "__dataclass_fields__", &found) <= 0) return {};
    Py_DECREF(found);
    if (!made_of_fields(type) || is_enum(type)) return {};
    const Reference module = Reference::adopt(PyImport_ImportModule("dataclasses"));
    if (!module) return {};
    const Reference all = Reference::adopt(PyObject_CallMethod(module.get(), "fields", "O", object));
    if (!all) return {};
    Reference names = Reference::adopt(PyTuple_New(PyTuple_GET_SIZE(all.get())));
    for (Py_ssize_t i = 0; names && i < PyTuple_GET_SIZE(all.get()); ++i) {
        PyObject* name = PyObject_GetAttrString(PyTuple_GET_ITEM(all.get(), i), "name");
        if (name == nullptr) return {};
        PyTuple_SET_ITEM(names.get(), i, name);
    }
    return names;
}

const RecordType* Sharer::record_type(PyTypeObject* type) {
    for (const RecordType& known : types_) {
        if (known.type == type) return &known;
    }
    bool named_tuple = false;
    Reference fields = fields_of(type, named_tuple);
    if (!fields) return nullptr;
    const Reference module =
        Reference::adopt(PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), "__module__"));
    const Reference name = Reference::adopt(PyType_GetQualName(type));
    if (!module || !name) return nullptr;
    const Py_ssize_t count = PyTuple_GET_SIZE(fields.get());
    for (Py_ssize_t i = 0; i < count; ++i) {
        if (PyUnicode_Check(PyTuple_GET_ITEM(fields.get(), i)) == 0) return nullptr;
    }
    if (PyUnicode_Check(module.get()) == 0) return nullptr;
    const Slot slot = builder_.slots(NodeKind::kRecordType, static_cast<std::size_t>(count));
    builder_.set_slot(slot, 0, text(module.get()));
    builder_.set_slot(slot, 1, text(name.get()));
    for (Py_ssize_t i = 0; i < count; ++i) {
        builder_.set_slot(slot, static_cast<std::size_t>(i) + 2, text(PyTuple_GET_ITEM(fields.get(), i)));
    }
    kept_.push_back(Py_NewRef(type));
    types_.push_back({.type = type, .slot = slot, .fields = std::move(fields), .named_tuple = named_tuple});
    return &types_.back();
}

bool Sharer::changed(PyObject* object) {
    PyErr_Format(PyExc_RuntimeError, "a %N changed while it was being shared", Py_TYPE(object));
    return false;
}

bool Sharer::refuse(PyObject* object, const char* hint) {
    PyErr_Format(PyExc_TypeError,
                 "a %N cannot be shared%s; None, bool, int, float, complex, str, bytes, tuple, list, dict, "
                 "set, frozenset "
                 "(these types exactly), dataclasses, namedtuples, arrays and syncyte's own objects can",
                 Py_TYPE(object), hint);
    return false;
}

void Sharer::step(const std::string& text) {
    constexpr std::size_t kLongest = 200;
    if (path_.size() < kLongest) path_ = text + path_;
}

bool Sharer::at_key(PyObject* key) {
    std::string name = "[...]";
    if (PyUnicode_CheckExact(key) != 0 || PyLong_CheckExact(key) != 0) {
        PyObject* pending = PyErr_GetRaisedException();
        const Reference repr = Reference::adopt(PyObject_ASCII(key));
        const char* text = repr ? PyUnicode_AsUTF8(repr.get()) : nullptr;
        if (text != nullptr) name = "[" + std::string(text).substr(0, 60) + "]";
        PyErr_Clear();
        PyErr_SetRaisedException(pending);
    }
    step(name);
    return false;
}

void Sharer::name_place() {
    if (!path_.empty()) add_note("while sharing value" + path_);
}

PyObject* Sharer::run(PyObject* object) {
    PyTypeObject* type = Py_TYPE(object);
    if (object == Py_None || type == &PyBool_Type || type == &PyLong_Type || type == &PyFloat_Type ||
        type == &PyComplex_Type || type == &PyUnicode_Type || type == &PyBytes_Type ||
        handle_of(state_, object) != nullptr) {
        return Py_NewRef(object);
    }
    Slot slot;
    if (!add(object, false, slot, 0)) {
        name_place();
        return nullptr;
    }
    return read_slot(state_, builder_.finish(), slot);
}

}  // namespace

PyObject* share(ModuleState& state, PyObject* object) {
    try {
        return Sharer(state).run(object);
    } catch (const std::bad_alloc&) {
        return PyErr_NoMemory();
    }
}

}  // namespace syncyte::python
