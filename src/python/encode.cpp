// to_value(): one walk over the structure, during which no Python code runs, so that nothing changes under
// it; then one pickle of all the objects that need it.
#include <algorithm>
#include <limits>
#include <new>
#include <string>
#include <utility>

#include "python/convert.h"
#include "python/handles.h"
#include "python/memo.h"
#include "python/reference.h"
#include "value/writer.h"

namespace syncyte::python {

namespace {

class Encoder {
  public:
    Encoder(ModuleState& state, Pickling pickling) : state_(state), pickling_(pickling) {}

    std::optional<Value> message(PyObject* object);

  private:
    enum class Failure : std::uint8_t { kPythonError, kTooDeep, kNeedsPickle, kLocated };

    bool encode(PyObject* object, int depth);
    bool encode_other(PyObject* object, int depth);
    bool encode_integer(PyObject* object);
    bool encode_big_integer(PyObject* object);
    void encode_string(PyObject* object);
    bool encode_container(PyObject* object, int depth);
    bool encode_sequence(Tag tag, PyObject* object, PyObject* const* items, Py_ssize_t count, int depth);
    bool encode_dict(PyObject* object, int depth);
    bool encode_set(PyObject* object, int depth);
    bool encode_foreign(PyObject* object);
    bool pack_integers(Tag tag, PyObject* const* items, std::size_t count);
    bool pack_reals(Tag tag, PyObject* const* items, std::size_t count);
    template <class T>
    void store_integers(std::byte* to, PyObject* const* items, std::size_t count);
    bool already_written(PyObject* object);
    bool fail(Failure failure, PyObject* object);
    void at_index(Py_ssize_t index);
    void at_key(PyObject* key);

    bool attach_pickle();
    void explain(PyObject* root);
    void name_culprit(PyObject* root);
    std::string locate(PyObject* root, Py_ssize_t index);

    ModuleState& state_;
    Pickling pickling_;
    Writer writer_;
    Memo memo_;
    Reference foreign_;  // list of what the pickle will hold
    Py_ssize_t foreign_count_ = 0;
    Py_ssize_t sought_ = -1;  // locate(): stop at this foreign object
    Failure failure_ = Failure::kPythonError;
    PyObject* culprit_ = nullptr;  // borrowed
    std::string path_;             // from the culprit outwards, filled while the recursion unwinds
};

std::optional<Value> Encoder::message(PyObject* object) {
    if (!encode(object, 0)) {
        explain(object);
        return std::nullopt;
    }
    if (foreign_ && !attach_pickle()) {
        name_culprit(object);
        return std::nullopt;
    }
    return writer_.finish();
}

inline bool Encoder::encode(PyObject* object, int depth) {
    PyTypeObject* type = Py_TYPE(object);
    if (type == &PyUnicode_Type) {
        encode_string(object);
        return true;
    }
    if (type == &PyLong_Type) return encode_integer(object);
    if (type == &PyFloat_Type) {
        writer_.real(PyFloat_AS_DOUBLE(object));
        return true;
    }
    if (object == Py_None) {
        writer_.none();
        return true;
    }
    if (type == &PyBool_Type) {
        writer_.boolean(object == Py_True);
        return true;
    }
    return encode_other(object, depth);
}

bool Encoder::encode_other(PyObject* object, int depth) {
    PyTypeObject* type = Py_TYPE(object);
    if (type == &PyBytes_Type) {
        writer_.bytes(PyBytes_AS_STRING(object), static_cast<std::size_t>(PyBytes_GET_SIZE(object)));
        return true;
    }
    if (type == &PyDict_Type || type == &PyList_Type || type == &PyTuple_Type || type == &PySet_Type ||
        type == &PyFrozenSet_Type) {
        return encode_container(object, depth + 1);
    }
    if (type == &PyByteArray_Type) {
        if (!already_written(object)) {
            writer_.byte_array(PyByteArray_AS_STRING(object),
                               static_cast<std::size_t>(PyByteArray_GET_SIZE(object)));
        }
        return true;
    }
    if (type == &PyComplex_Type) {
        const Py_complex value = PyComplex_AsCComplex(object);
        writer_.complex(value.real, value.imag);
        return true;
    }
    // A subclass in Python may carry more than the handle: pickle asks it. Those made here are immutable
    // types.
    if (Handle* handle = handle_of(state_, object);
        handle != nullptr && (PyType_HasFeature(type, Py_TPFLAGS_IMMUTABLETYPE) != 0 ||
                              type == state_.handle_types[static_cast<std::size_t>(handle->kind())])) {
        writer_.handle(Ref<Handle>::share(handle));
        return true;
    }
    return encode_foreign(object);
}

inline void Encoder::encode_string(PyObject* object) {
    const std::uint8_t width =
        PyUnicode_IS_ASCII(object) ? 0 : static_cast<std::uint8_t>(PyUnicode_KIND(object));
    writer_.string(width, PyUnicode_DATA(object), static_cast<std::size_t>(PyUnicode_GET_LENGTH(object)));
}

inline bool Encoder::encode_integer(PyObject* object) {
    const auto* number = reinterpret_cast<PyLongObject*>(object);
    if (PyUnstable_Long_IsCompact(number) != 0) {
        writer_.integer(PyUnstable_Long_CompactValue(number));
        return true;
    }
    int overflow = 0;
    const long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (overflow != 0) return encode_big_integer(object);
    writer_.integer(value);
    return true;
}

bool Encoder::encode_big_integer(PyObject* object) {
    const Py_ssize_t size = PyLong_AsNativeBytes(object, nullptr, 0, Py_ASNATIVEBYTES_LITTLE_ENDIAN);
    if (size < 0) return fail(Failure::kPythonError, object);
    std::byte* room = writer_.big_integer(static_cast<std::size_t>(size));
    if (PyLong_AsNativeBytes(object, room, size, Py_ASNATIVEBYTES_LITTLE_ENDIAN) < 0) {
        return fail(Failure::kPythonError, object);
    }
    return true;
}

// Whoever holds the only reference holds it in one place: such an object cannot come twice.
inline bool Encoder::already_written(PyObject* object) {
    if (Py_REFCNT(object) == 1) return false;
    const std::optional<std::size_t> first = memo_.find_or_add(object, writer_.offset());
    if (!first) return false;
    writer_.repeat(*first);
    return true;
}

bool Encoder::encode_container(PyObject* object, int depth) {
    PyTypeObject* type = Py_TYPE(object);
    if (type == &PyTuple_Type && PyTuple_GET_SIZE(object) == 0) {
        writer_.container(Tag::kTuple, 0);
        return true;
    }
    if (already_written(object)) return true;
    if (depth > kMaxDepth) return fail(Failure::kTooDeep, object);
    if (depth > 1 && Py_EnterRecursiveCall(" while copying a message") != 0) {
        return fail(Failure::kPythonError, object);
    }
    bool done = false;
    if (type == &PyList_Type) {
        done = encode_sequence(Tag::kList, object, reinterpret_cast<PyListObject*>(object)->ob_item,
                               PyList_GET_SIZE(object), depth);
    } else if (type == &PyDict_Type) {
        done = encode_dict(object, depth);
    } else if (type == &PyTuple_Type) {
        done = encode_sequence(Tag::kTuple, object, reinterpret_cast<PyTupleObject*>(object)->ob_item,
                               PyTuple_GET_SIZE(object), depth);
    } else {
        done = encode_set(object, depth);
    }
    if (depth > 1) Py_LeaveRecursiveCall();
    return done;
}

bool Encoder::encode_sequence(Tag tag, PyObject* /*object*/, PyObject* const* items, Py_ssize_t count,
                              int depth) {
    constexpr Py_ssize_t kWorthPacking = 4;
    if (count >= kWorthPacking) {
        const bool list = tag == Tag::kList;
        const auto size = static_cast<std::size_t>(count);
        if (PyLong_CheckExact(items[0]) &&
            pack_integers(list ? Tag::kIntList : Tag::kIntTuple, items, size)) {
            return true;
        }
        if (PyFloat_CheckExact(items[0]) &&
            pack_reals(list ? Tag::kFloatList : Tag::kFloatTuple, items, size)) {
            return true;
        }
    }
    writer_.container(tag, static_cast<std::size_t>(count));
    for (Py_ssize_t i = 0; i < count; ++i) {
        if (!encode(items[i], depth)) [[unlikely]] {
            at_index(i);
            return false;
        }
    }
    return true;
}

template <class T>
void Encoder::store_integers(std::byte* to, PyObject* const* items, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
        const auto* number = reinterpret_cast<PyLongObject*>(items[i]);
        T value = 0;
        if (sizeof(T) < sizeof(std::int64_t) || PyUnstable_Long_IsCompact(number) != 0) {
            value = static_cast<T>(PyUnstable_Long_CompactValue(number));
        } else {
            int overflow = 0;
            value = static_cast<T>(PyLong_AsLongLongAndOverflow(items[i], &overflow));
        }
        std::memcpy(to + i * sizeof value, &value, sizeof value);
    }
}

// Writes nothing and says false unless all are exact ints of at most 64 bits.
bool Encoder::pack_integers(Tag tag, PyObject* const* items, std::size_t count) {
    std::uint64_t magnitudes = 0;
    bool wide = false;
    for (std::size_t i = 0; i < count; ++i) {
        if (!PyLong_CheckExact(items[i])) return false;
        const auto* number = reinterpret_cast<PyLongObject*>(items[i]);
        if (PyUnstable_Long_IsCompact(number) != 0) [[likely]] {
            const auto value = static_cast<std::int64_t>(PyUnstable_Long_CompactValue(number));
            magnitudes |= static_cast<std::uint64_t>(value ^ (value >> 63));
        } else {
            int overflow = 0;
            PyLong_AsLongLongAndOverflow(items[i], &overflow);
            if (overflow != 0) return false;
            wide = true;
        }
    }
    if (wide || magnitudes > INT32_MAX) {
        store_integers<std::int64_t>(writer_.integers(tag, 8, count), items, count);
    } else if (magnitudes > INT16_MAX) {
        store_integers<std::int32_t>(writer_.integers(tag, 4, count), items, count);
    } else if (magnitudes > INT8_MAX) {
        store_integers<std::int16_t>(writer_.integers(tag, 2, count), items, count);
    } else {
        store_integers<std::int8_t>(writer_.integers(tag, 1, count), items, count);
    }
    return true;
}

bool Encoder::pack_reals(Tag tag, PyObject* const* items, std::size_t count) {
    if (!std::all_of(items, items + count, [](PyObject* item) { return PyFloat_CheckExact(item) != 0; })) {
        return false;
    }
    std::byte* to = writer_.reals(tag, count);
    for (std::size_t i = 0; i < count; ++i) {
        const double value = PyFloat_AS_DOUBLE(items[i]);
        std::memcpy(to + i * sizeof value, &value, sizeof value);
    }
    return true;
}

bool Encoder::encode_dict(PyObject* object, int depth) {
    writer_.container(Tag::kDict, static_cast<std::size_t>(PyDict_GET_SIZE(object)));
    Py_ssize_t position = 0;
    PyObject* key = nullptr;
    PyObject* value = nullptr;
    while (PyDict_Next(object, &position, &key, &value) != 0) {
        if (!encode(key, depth)) [[unlikely]] {
            if (path_.empty()) path_ = " (a key)";
            at_key(key);
            return false;
        }
        if (!encode(value, depth)) [[unlikely]] {
            at_key(key);
            return false;
        }
    }
    return true;
}

bool Encoder::encode_set(PyObject* object, int depth) {
    writer_.container(PySet_CheckExact(object) != 0 ? Tag::kSet : Tag::kFrozenSet,
                      static_cast<std::size_t>(PySet_GET_SIZE(object)));
    const Reference iterator = Reference::adopt(PyObject_GetIter(object));
    if (!iterator) return fail(Failure::kPythonError, object);
    while (const Reference item = Reference::adopt(PyIter_Next(iterator.get()))) {
        if (!encode(item.get(), depth)) [[unlikely]] {
            path_ += " (in a set)";
            return false;
        }
    }
    return PyErr_Occurred() == nullptr || fail(Failure::kPythonError, object);
}

bool Encoder::encode_foreign(PyObject* object) {
    if (already_written(object)) return true;
    if (pickling_ == Pickling::kForbidden) return fail(Failure::kNeedsPickle, object);
    if (foreign_count_ == sought_) return fail(Failure::kLocated, object);
    if (!foreign_) foreign_ = Reference::adopt(PyList_New(0));
    if (!foreign_ || PyList_Append(foreign_.get(), object) < 0) return fail(Failure::kPythonError, object);
    if (std::cmp_equal(foreign_count_, std::numeric_limits<std::uint32_t>::max())) {
        PyErr_SetString(PyExc_OverflowError, "a message cannot carry more than 4294967295 pickled objects");
        return fail(Failure::kPythonError, object);
    }
    writer_.pickled(static_cast<std::uint32_t>(foreign_count_++));
    return true;
}

bool Encoder::fail(Failure failure, PyObject* object) {
    failure_ = failure;
    culprit_ = object;
    return false;
}

void Encoder::at_index(Py_ssize_t index) {
    // Of a path a thousand steps long, the inner end says enough.
    constexpr std::size_t kLongest = 200;
    if (path_.size() < kLongest) path_ = "[" + std::to_string(index) + "]" + path_;
}

void Encoder::at_key(PyObject* key) {
    constexpr std::size_t kLongest = 200;
    if (path_.size() >= kLongest) return;
    std::string name = "...";
    // Only for these does repr() run no code of others and stay short.
    if (PyUnicode_CheckExact(key) != 0 || PyLong_CheckExact(key) != 0) {
        PyObject* pending = PyErr_GetRaisedException();
        const Reference repr = Reference::adopt(PyObject_ASCII(key));
        const char* text = repr ? PyUnicode_AsUTF8(repr.get()) : nullptr;
        if (text != nullptr) name = text;
        if (name.size() > 60) name = name.substr(0, 57) + "...";
        PyErr_Clear();
        if (pending != nullptr) PyErr_SetRaisedException(pending);
    }
    path_ = "[" + name + "]" + path_;
}

// Sets the Python error for a walk that failed.
void Encoder::explain(PyObject* root) {
    const char* where = culprit_ == root ? "" : path_.c_str();
    switch (failure_) {
        case Failure::kTooDeep:
            PyErr_Format(
                PyExc_ValueError,
                "a message cannot nest containers more than %d deep; flatten it, or pickle it to bytes "
                "first",
                kMaxDepth);
            return;
        case Failure::kNeedsPickle:
            PyErr_Format(
                PyExc_TypeError,
                "value%s is of type %N, which can travel only by pickle, and pickle=False forbids that; "
                "make it of plain objects or of syncyte's own",
                where, Py_TYPE(culprit_));
            return;
        case Failure::kLocated:
        case Failure::kPythonError: return;
    }
}

bool load_pickle_functions(ModuleState& state) {
    if (state.pickle_dumps != nullptr && state.pickle_loads != nullptr) return true;
    const Reference pickle = Reference::adopt(PyImport_ImportModule("pickle"));
    if (!pickle) return false;
    Py_XSETREF(state.pickle_dumps, PyObject_GetAttrString(pickle.get(), "dumps"));
    Py_XSETREF(state.pickle_loads, PyObject_GetAttrString(pickle.get(), "loads"));
    return state.pickle_dumps != nullptr && state.pickle_loads != nullptr;
}

// One pickle for all foreign objects: they keep what they share, and classes are named once.
bool Encoder::attach_pickle() {
    if (!load_pickle_functions(state_)) return false;
    PyObject* subject = foreign_count_ == 1 ? PyList_GET_ITEM(foreign_.get(), 0) : foreign_.get();
    PickleScope scope(state_);
    const Reference protocol = Reference::adopt(PyLong_FromLong(5));
    const Reference pickle =
        Reference::adopt(PyObject_CallFunctionObjArgs(state_.pickle_dumps, subject, protocol.get(), nullptr));
    if (!pickle) return false;
    if (PyBytes_CheckExact(pickle.get()) == 0) {
        PyErr_Format(PyExc_TypeError, "pickle.dumps returned a %N", Py_TYPE(pickle.get()));
        return false;
    }
    writer_.attach_pickle({reinterpret_cast<const std::byte*>(PyBytes_AS_STRING(pickle.get())),
                           static_cast<std::size_t>(PyBytes_GET_SIZE(pickle.get()))},
                          static_cast<std::uint32_t>(foreign_count_));
    for (Ref<Handle>& handle : scope.handles) writer_.attach_handle(std::move(handle));
    return true;
}

// Pickle has raised: says in a note which element of the message it was, found by trying each alone.
void Encoder::name_culprit(PyObject* root) {
    const Reference error = Reference::adopt(PyErr_GetRaisedException());
    if (foreign_count_ == 1 && PyList_GET_ITEM(foreign_.get(), 0) == root) {
        PyErr_SetRaisedException(Py_NewRef(error.get()));
        return;
    }
    for (Py_ssize_t i = 0; i < foreign_count_; ++i) {
        PyObject* object = PyList_GET_ITEM(foreign_.get(), i);
        if (foreign_count_ > 1) {
            const PickleScope scope(state_);
            const Reference pickle = Reference::adopt(PyObject_CallOneArg(state_.pickle_dumps, object));
            if (pickle) continue;
            PyErr_Clear();
        }
        const std::string path = Encoder(state_, pickling_).locate(root, i);
        const Reference note = Reference::adopt(
            PyUnicode_FromFormat("while pickling value%s, of type %N", path.c_str(), Py_TYPE(object)));
        const Reference added =
            note ? Reference::adopt(PyObject_CallMethod(error.get(), "add_note", "O", note.get()))
                 : Reference();
        PyErr_Clear();
        break;
    }
    PyErr_SetRaisedException(Py_NewRef(error.get()));
}

std::string Encoder::locate(PyObject* root, Py_ssize_t index) {
    sought_ = index;
    if (!encode(root, 0) && failure_ == Failure::kLocated) return path_;
    PyErr_Clear();
    return "[...]";
}

}  // namespace

std::optional<Value> to_value(ModuleState& state, PyObject* object, Pickling pickling) {
    try {
        return Encoder(state, pickling).message(object);
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
        return std::nullopt;
    }
}

}  // namespace syncyte::python
