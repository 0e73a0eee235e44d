// from_value(): one pass over the message.
#include <algorithm>
#include <bit>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

#include "python/convert.h"
#include "python/handles.h"
#include "python/reference.h"
#include "value/reader.h"

namespace syncyte::python {

namespace {

PyObject* damaged() {
    PyErr_SetString(PyExc_SystemError, "a syncyte message is damaged");
    return nullptr;
}

constexpr std::size_t kLongestKey = 40;

constexpr auto kOffset = [](const auto& entry) { return entry.first; };

class Decoder {
  public:
    Decoder(ModuleState& state, const Value& value)
        : state_(state), reader_(value.bytes()), attachments_(value.attachments()) {}

    PyObject* message();

  private:
    PyObject* decode(int depth);
    PyObject* decode_item(const Item& item, int depth);
    PyObject* decode_key(int depth);
    PyObject* decode_other(const Item& item, int depth);
    PyObject* decode_string(const Item& item);
    PyObject* decode_sequence(const Item& item, int depth);
    PyObject* decode_dict(const Item& item, int depth);
    PyObject* decode_set(const Item& item, int depth);
    PyObject* decode_packed(const Item& item);
    template <class T>
    PyObject* decode_numbers(const Item& item, bool list);
    PyObject* decode_handle(std::size_t index);
    PyObject* decode_pickled(std::size_t index);
    PyObject* decode_repeat(std::size_t offset);
    bool load_pickle();
    void remember(const Item& item, PyObject* object);

    ModuleState& state_;
    Reader reader_;
    const Value::Attachments* attachments_;
    Reference pickled_;                                        // the object, or the list of objects
    std::vector<std::pair<std::size_t, Reference>> repeated_;  // by rising offset
};

PyObject* Decoder::message() {
    if (reader_.at_end()) Py_RETURN_NONE;
    if (attachments_ != nullptr && attachments_->pickled_count > 0 && !load_pickle()) return nullptr;
    return decode(0);
}

bool Decoder::load_pickle() {
    if (state_.pickle_loads == nullptr) {
        const Reference pickle = Reference::adopt(PyImport_ImportModule("pickle"));
        if (!pickle) return false;
        Py_XSETREF(state_.pickle_loads, PyObject_GetAttrString(pickle.get(), "loads"));
        if (state_.pickle_loads == nullptr) return false;
    }
    const auto& bytes = attachments_->pickle;
    const Reference view = Reference::adopt(
        PyMemoryView_FromMemory(const_cast<char*>(reinterpret_cast<const char*>(bytes.data())),
                                static_cast<Py_ssize_t>(bytes.size()), PyBUF_READ));
    if (!view) return false;
    pickled_ = Reference::adopt(PyObject_CallOneArg(state_.pickle_loads, view.get()));
    return static_cast<bool>(pickled_);
}

void Decoder::remember(const Item& item, PyObject* object) {
    if (!item.repeated) [[likely]]
        return;
    // At the end but for a set, which is remembered after its elements.
    const auto place = std::ranges::lower_bound(repeated_, item.offset, {}, kOffset);
    repeated_.emplace(place, item.offset, Reference::share(object));
}

inline PyObject* Decoder::decode(int depth) {
    Item item;
    if (!reader_.next(item)) [[unlikely]]
        return damaged();
    return decode_item(item, depth);
}

inline PyObject* Decoder::decode_item(const Item& item, int depth) {
    switch (item.tag) {
        case Tag::kShortAscii:
        case Tag::kStr: return decode_string(item);
        case Tag::kInt8:
        case Tag::kInt64: return PyLong_FromLongLong(item.integer);
        case Tag::kFloat: return PyFloat_FromDouble(item.real);
        case Tag::kNone: Py_RETURN_NONE;
        case Tag::kTrue: Py_RETURN_TRUE;
        case Tag::kFalse: Py_RETURN_FALSE;
        default: return decode_other(item, depth);
    }
}

inline PyObject* Decoder::decode_string(const Item& item) {
    if (item.count <= 1) [[unlikely]] {  // these come from the interpreter's own cache
        const int kind = std::max<int>(item.width, PyUnicode_1BYTE_KIND);
        return PyUnicode_FromKindAndData(kind, item.data, static_cast<Py_ssize_t>(item.count));
    }
    constexpr Py_UCS4 kLargest[] = {0x7f, 0xff, 0xffff, 0, 0x10ffff};
    PyObject* text = PyUnicode_New(static_cast<Py_ssize_t>(item.count), kLargest[item.width]);
    if (text == nullptr) return nullptr;
    std::memcpy(PyUnicode_DATA(text), item.data, item.count * std::max<std::size_t>(item.width, 1));
    return text;
}

PyObject* Decoder::decode_other(const Item& item, int depth) {
    const auto* data = reinterpret_cast<const char*>(item.data);
    const auto size = static_cast<Py_ssize_t>(item.count);
    PyObject* object = nullptr;
    switch (item.tag) {
        case Tag::kBigInt: return PyLong_FromNativeBytes(data, item.count, Py_ASNATIVEBYTES_LITTLE_ENDIAN);
        case Tag::kComplex: return PyComplex_FromDoubles(item.real, item.imaginary);
        case Tag::kBytes: return PyBytes_FromStringAndSize(data, size);
        case Tag::kRepeat: return decode_repeat(item.count);
        case Tag::kHandle: return decode_handle(item.count);
        case Tag::kByteArray: object = PyByteArray_FromStringAndSize(data, size); break;
        case Tag::kPickled: object = decode_pickled(item.count); break;
        case Tag::kIntList:
        case Tag::kIntTuple:
        case Tag::kFloatList:
        case Tag::kFloatTuple: object = decode_packed(item); break;
        case Tag::kTuple:
        case Tag::kList:
        case Tag::kSet:
        case Tag::kFrozenSet:
        case Tag::kDict: {
            if (depth >= kMaxDepth) return damaged();
            if (depth > 0 && Py_EnterRecursiveCall(" while unpacking a message") != 0) return nullptr;
            if (item.tag == Tag::kDict) {
                object = decode_dict(item, depth + 1);
            } else if (item.tag == Tag::kList || item.tag == Tag::kTuple) {
                object = decode_sequence(item, depth + 1);
            } else {
                object = decode_set(item, depth + 1);
            }
            if (depth > 0) Py_LeaveRecursiveCall();
            return object;
        }
        default: return damaged();
    }
    if (object != nullptr) remember(item, object);
    return object;
}

PyObject* Decoder::decode_sequence(const Item& item, int depth) {
    const auto count = static_cast<Py_ssize_t>(item.count);
    const bool list = item.tag == Tag::kList;
    Reference sequence = Reference::adopt(list ? PyList_New(count) : PyTuple_New(count));
    if (!sequence) return nullptr;
    remember(item, sequence.get());
    for (Py_ssize_t i = 0; i < count; ++i) {
        PyObject* object = decode(depth);
        if (object == nullptr) return nullptr;
        if (list) {
            PyList_SET_ITEM(sequence.get(), i, object);
        } else {
            PyTuple_SET_ITEM(sequence.get(), i, object);
        }
    }
    return sequence.leak();
}

// The first and the last T of some characters, which may overlap.
template <class T>
std::uint64_t ends(const std::byte* text, std::size_t length) {
    T head;
    T tail;
    std::memcpy(&head, text, sizeof head);
    std::memcpy(&tail, text + length - sizeof tail, sizeof tail);
    return head ^ std::rotl(std::uint64_t{tail}, 23);
}

// Where a key of 2 to kLongestKey ASCII characters is kept: by its ends and its length.
std::size_t key_place(const std::byte* text, std::size_t length) {
    std::uint64_t bits = length >= 8   ? ends<std::uint64_t>(text, length)
                         : length >= 4 ? ends<std::uint32_t>(text, length)
                                       : ends<std::uint16_t>(text, length);
    return ((bits ^ length) * 0x9e3779b97f4a7c15ULL) >> 56;
}

// Dicts of one kind come again and again with the same few keys: the last ones are kept, and their hash with
// them.
PyObject* Decoder::decode_key(int depth) {
    Item item;
    if (!reader_.next(item)) [[unlikely]]
        return damaged();
    if (item.tag != Tag::kShortAscii || item.count < 2 || item.count > kLongestKey)
        return decode_item(item, depth);
    const auto is_it = [&item](PyObject* kept) {
        return kept != nullptr && std::cmp_equal(PyUnicode_GET_LENGTH(kept), item.count) &&
               std::memcmp(PyUnicode_DATA(kept), item.data, item.count) == 0;
    };
    // Two places for each, so that two keys that meet there do not drive each other out.
    const std::size_t place = key_place(item.data, item.count);
    PyObject*& first = state_.recent_keys[place];
    PyObject*& second = state_.recent_keys[place ^ 1];
    if (is_it(first)) return Py_NewRef(first);
    if (is_it(second)) return Py_NewRef(second);
    PyObject* key = decode_string(item);
    if (key == nullptr) return nullptr;
    Py_XDECREF(std::exchange(second, std::exchange(first, Py_NewRef(key))));
    return key;
}

PyObject* Decoder::decode_dict(const Item& item, int depth) {
    Reference dict = Reference::adopt(PyDict_New());
    if (!dict) return nullptr;
    remember(item, dict.get());
    for (std::size_t i = 0; i < item.count; ++i) {
        const Reference key = Reference::adopt(decode_key(depth));
        if (!key) return nullptr;
        const Reference value = Reference::adopt(decode(depth));
        if (!value || PyDict_SetItem(dict.get(), key.get(), value.get()) < 0) return nullptr;
    }
    return dict.leak();
}

PyObject* Decoder::decode_set(const Item& item, int depth) {
    Reference set = Reference::adopt(item.tag == Tag::kSet ? PySet_New(nullptr) : PyFrozenSet_New(nullptr));
    if (!set) return nullptr;
    for (std::size_t i = 0; i < item.count; ++i) {
        const Reference element = Reference::adopt(decode(depth));
        if (!element || PySet_Add(set.get(), element.get()) < 0) return nullptr;
    }
    // Not before: PySet_Add() fills a frozenset only while nobody else sees it. An element that is hashable
    // cannot lead back to its set, so nobody has asked yet.
    remember(item, set.get());
    return set.leak();
}

PyObject* Decoder::decode_packed(const Item& item) {
    if (item.tag == Tag::kFloatList || item.tag == Tag::kFloatTuple) {
        return decode_numbers<double>(item, item.tag == Tag::kFloatList);
    }
    const bool list = item.tag == Tag::kIntList;
    switch (item.width) {
        case 1: return decode_numbers<std::int8_t>(item, list);
        case 2: return decode_numbers<std::int16_t>(item, list);
        case 4: return decode_numbers<std::int32_t>(item, list);
        default: return decode_numbers<std::int64_t>(item, list);
    }
}

template <class T>
PyObject* Decoder::decode_numbers(const Item& item, bool list) {
    const auto count = static_cast<Py_ssize_t>(item.count);
    Reference sequence = Reference::adopt(list ? PyList_New(count) : PyTuple_New(count));
    if (!sequence) return nullptr;
    PyObject** items = list ? reinterpret_cast<PyListObject*>(sequence.get())->ob_item
                            : reinterpret_cast<PyTupleObject*>(sequence.get())->ob_item;
    for (Py_ssize_t i = 0; i < count; ++i) {
        T number = 0;
        std::memcpy(&number, item.data + i * static_cast<Py_ssize_t>(sizeof number), sizeof number);
        if constexpr (std::is_floating_point_v<T>) {
            items[i] = PyFloat_FromDouble(number);
        } else {
            items[i] = PyLong_FromLong(number);
        }
        if (items[i] == nullptr) return nullptr;
    }
    return sequence.leak();
}

PyObject* Decoder::decode_handle(std::size_t index) {
    if (attachments_ == nullptr || index >= attachments_->handles.size()) return damaged();
    return wrap_handle(state_, attachments_->handles[index]);
}

PyObject* Decoder::decode_pickled(std::size_t index) {
    if (!pickled_ || index >= attachments_->pickled_count) return damaged();
    if (attachments_->pickled_count == 1) return Py_NewRef(pickled_.get());
    if (PyList_CheckExact(pickled_.get()) == 0) return damaged();
    return PyList_GetItemRef(pickled_.get(), static_cast<Py_ssize_t>(index));
}

PyObject* Decoder::decode_repeat(std::size_t offset) {
    const auto found = std::ranges::lower_bound(repeated_, offset, {}, kOffset);
    if (found == repeated_.end() || found->first != offset) return damaged();
    return Py_NewRef(found->second.get());
}

}  // namespace

PyObject* from_value(ModuleState& state, const Value& value) {
    try {
        return Decoder(state, value).message();
    } catch (const std::bad_alloc&) {
        return PyErr_NoMemory();
    }
}

}  // namespace syncyte::python
