#include "python/buffer.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "python/dlpack.h"
#include "python/errors.h"
#include "python/handles.h"
#include "python/reference.h"

namespace syncyte::python {

namespace {

const BufferView& view_of(PyObject* self) {
    return static_cast<const BufferView&>(*reinterpret_cast<HandleObject*>(self)->handle);
}

PyObject* wrap_like(PyObject* self, Ref<BufferView> view) {
    return new_handle_object(Py_TYPE(self), std::move(view));
}

PyObject* extents_tuple(const BufferView::Shape& shape) {
    Reference tuple = Reference::adopt(PyTuple_New(shape.dimensions));
    for (int i = 0; tuple && i < shape.dimensions; ++i) {
        PyObject* extent = PyLong_FromLongLong(shape.extents[static_cast<std::size_t>(i)]);
        if (extent == nullptr) return nullptr;
        PyTuple_SET_ITEM(tuple.get(), i, extent);
    }
    return tuple.leak();
}

// Making one.

PyObject* make(PyTypeObject* type, PyObject* args, PyObject* keywords) {
    static const char* const names[] = {"nbytes", nullptr};
    PyObject* wanted = nullptr;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O:SharedBuffer", const_cast<char**>(names), &wanted)) {
        return nullptr;
    }
    const Py_ssize_t size = PyNumber_AsSsize_t(wanted, PyExc_OverflowError);
    if (size == -1 && PyErr_Occurred() != nullptr) return nullptr;
    if (size < 0) return PyErr_Format(PyExc_ValueError, "nbytes must not be negative, got %zd", size);
    Ref<Buffer> buffer = Buffer::allocate(static_cast<std::size_t>(size));
    if (!buffer) return PyErr_Format(PyExc_MemoryError, "there is no memory for %zd bytes", size);
    return new_handle_object(type, make_ref<BufferView>(std::move(buffer)));
}

PyObject* wrap_or_raise(PyObject* type, std::expected<Ref<Buffer>, int> buffer, PyObject* name) {
    if (!buffer && buffer.error() == ENODEV) {
        const Reference error = Reference::adopt(
            PyObject_CallFunction(PyExc_OSError, "isO", ENODEV,
                                  "cannot be mapped, since it is no regular file of a known size", name));
        if (error) PyErr_SetObject(PyExc_OSError, error.get());
        return nullptr;
    }
    if (!buffer) {
        errno = buffer.error();
        return PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, name);
    }
    return new_handle_object(reinterpret_cast<PyTypeObject*>(type), make_ref<BufferView>(std::move(*buffer)));
}

PyObject* open(PyObject* type, PyObject* path) {
    PyObject* encoded = nullptr;
    if (PyUnicode_FSConverter(path, static_cast<void*>(&encoded)) == 0) return nullptr;
    const Reference owner = Reference::adopt(encoded);
    std::expected<Ref<Buffer>, int> buffer;
    Py_BEGIN_ALLOW_THREADS;
    buffer = Buffer::open(PyBytes_AS_STRING(encoded));
    Py_END_ALLOW_THREADS;
    return wrap_or_raise(type, std::move(buffer), path);
}

PyObject* attach(PyObject* type, PyObject* args, PyObject* keywords) {
    static const char* const names[] = {"name", "readonly", nullptr};
    PyObject* name = nullptr;
    int read_only = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "U|$p:attach", const_cast<char**>(names), &name,
                                     &read_only)) {
        return nullptr;
    }
    Py_ssize_t length = 0;
    const char* text = PyUnicode_AsUTF8AndSize(name, &length);
    if (text == nullptr) return nullptr;
    if (std::memchr(text, 0, static_cast<std::size_t>(length)) != nullptr) {
        PyErr_SetString(PyExc_ValueError, "the name of a shared memory segment holds no null character");
        return nullptr;
    }
    std::expected<Ref<Buffer>, int> buffer;
    Py_BEGIN_ALLOW_THREADS;
    buffer = Buffer::attach(text, read_only == 0);
    Py_END_ALLOW_THREADS;
    return wrap_or_raise(type, std::move(buffer), name);
}

bool contents_from(PyObject* source, BufferView::Shape& shape, const ElementType*& element, Py_buffer& from) {
    if (PyObject_GetBuffer(source, &from, PyBUF_FULL_RO) < 0) return false;
    const char* format = from.format == nullptr ? "B" : from.format;
    // ctypes says "<" for the machine's own order.
    const char own = std::endian::native == std::endian::little ? '<' : '>';
    const bool prefixed = *format == '=' || *format == '@' || *format == own;
    element = find_element_type(prefixed ? format + 1 : format);
    if (element == nullptr || std::cmp_not_equal(element->size, from.itemsize)) {
        PyErr_Format(PyExc_ValueError,
                     "a SharedBuffer has no elements of format '%s'; integers of 1 to 8 bytes, floats of 2, "
                     "4 and 8 and bool, in the machine's byte order, are what it has",
                     format);
    } else if (from.ndim > BufferView::kMaxDimensions) {
        PyErr_Format(PyExc_ValueError, "a SharedBuffer has at most %d dimensions",
                     BufferView::kMaxDimensions);
    } else {
        shape.dimensions = from.ndim;
        for (int i = 0; i < from.ndim; ++i) shape.extents[static_cast<std::size_t>(i)] = from.shape[i];
        return true;
    }
    PyBuffer_Release(&from);
    return false;
}

PyObject* from_buffer(PyObject* type, PyObject* source) {
    ModuleState* state = state_of_type(reinterpret_cast<PyTypeObject*>(type));
    if (state == nullptr) return nullptr;
    BufferView::Shape shape;
    const ElementType* element = nullptr;
    Py_buffer from;
    if (!contents_from(source, shape, element, from)) return nullptr;
    Ref<Buffer> buffer = Buffer::allocate(static_cast<std::size_t>(from.len));
    const int copied = buffer ? PyBuffer_ToContiguous(buffer->data(), &from, from.len, 'C') : 0;
    PyBuffer_Release(&from);
    if (!buffer) return PyErr_NoMemory();
    if (copied < 0) return nullptr;
    Result<Ref<BufferView>> view = BufferView(buffer).view(shape, *element);
    if (!view) return raise_error(*state, view.error());
    return new_handle_object(reinterpret_cast<PyTypeObject*>(type), std::move(*view));
}

// The buffer protocol. `internal` tells whether the consumer holds a writer's share.

int get_buffer(PyObject* self, Py_buffer* out, int flags) {
    const BufferView& view = view_of(self);
    const bool writing = view.writable_view() && view.buffer().begin_writing();
    if (!writing && (flags & PyBUF_WRITABLE) != 0) {
        out->obj = nullptr;
        PyErr_SetString(PyExc_BufferError,
                        view.writable_view() ? "the buffer is frozen" : "this view is read-only");
        return -1;
    }
    auto& shape = const_cast<BufferView::Shape&>(view.shape());
    auto& strides = const_cast<BufferView::Shape&>(view.strides());
    const bool plain = (flags & PyBUF_ND) == 0;  // a consumer that knows nothing but bytes
    out->obj = Py_NewRef(self);
    out->buf = view.data();
    out->len = static_cast<Py_ssize_t>(view.size());
    out->itemsize = view.type().size;
    out->readonly = writing ? 0 : 1;
    out->ndim = plain ? 1 : view.shape().dimensions;
    out->format = (flags & PyBUF_FORMAT) != 0 ? const_cast<char*>(view.type().format) : nullptr;
    static_assert(sizeof(Py_ssize_t) == sizeof(std::int64_t));
    out->shape = plain ? nullptr : reinterpret_cast<Py_ssize_t*>(shape.extents.data());
    out->strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES
                       ? reinterpret_cast<Py_ssize_t*>(strides.extents.data())
                       : nullptr;
    out->suboffsets = nullptr;
    out->internal = writing ? &view.buffer() : nullptr;
    return 0;
}

void release_buffer(PyObject* /*self*/, Py_buffer* out) {
    if (out->internal != nullptr) static_cast<Buffer*>(out->internal)->end_writing();
}

// Elements and parts.

Py_ssize_t length(PyObject* self) {
    const BufferView::Shape& shape = view_of(self).shape();
    if (shape.dimensions == 0) {
        PyErr_SetString(PyExc_TypeError, "a buffer without dimensions has no len()");
        return -1;
    }
    return shape.extents[0];
}

PyObject* slice_of(PyObject* self, PyObject* key) {
    Py_ssize_t start = 0;
    Py_ssize_t stop = 0;
    Py_ssize_t step = 0;
    if (PySlice_Unpack(key, &start, &stop, &step) < 0) return nullptr;
    if (step != 1) {
        PyErr_SetString(PyExc_ValueError,
                        "a SharedBuffer is sliced with step 1; memoryview(buffer) takes any step");
        return nullptr;
    }
    const BufferView& view = view_of(self);
    PySlice_AdjustIndices(view.shape().extents[0], &start, &stop, step);
    return wrap_like(self, view.slice(start, std::max(start, stop)));
}

PyObject* subscript(PyObject* self, PyObject* key) {
    const BufferView& view = view_of(self);
    if (view.shape().dimensions > 0 && PySlice_Check(key)) return slice_of(self, key);
    if (view.shape().dimensions > 1 && PyIndex_Check(key) != 0) {
        Py_ssize_t index = PyNumber_AsSsize_t(key, PyExc_IndexError);
        if (index == -1 && PyErr_Occurred() != nullptr) return nullptr;
        const Py_ssize_t rows = view.shape().extents[0];
        if (index < 0) index += rows;
        if (index < 0 || index >= rows)
            return PyErr_Format(PyExc_IndexError, "the first axis has %zd rows", rows);
        return wrap_like(self, view.row(index));
    }
    const Reference memory = Reference::adopt(PyMemoryView_FromObject(self));
    return memory ? PyObject_GetItem(memory.get(), key) : nullptr;
}

int assign(PyObject* self, PyObject* key, PyObject* value) {
    if (value == nullptr) {
        PyErr_SetString(PyExc_TypeError, "elements of a SharedBuffer cannot be deleted");
        return -1;
    }
    const Reference memory = Reference::adopt(PyMemoryView_FromObject(self));
    return memory ? PyObject_SetItem(memory.get(), key, value) : -1;
}

// Views.

bool parse_shape(PyObject* object, BufferView::Shape& shape) {
    Reference single;
    if (PyIndex_Check(object) != 0) {
        single = Reference::adopt(PyTuple_Pack(1, object));
        if (!single) return false;
        object = single.get();
    }
    const Reference sizes = Reference::adopt(PySequence_Tuple(object));
    if (!sizes) return false;
    const Py_ssize_t dimensions = PyTuple_GET_SIZE(sizes.get());
    if (dimensions > BufferView::kMaxDimensions) {
        PyErr_Format(PyExc_ValueError, "a SharedBuffer has at most %d dimensions, the shape has %zd",
                     BufferView::kMaxDimensions, dimensions);
        return false;
    }
    shape.dimensions = static_cast<int>(dimensions);
    for (Py_ssize_t i = 0; i < dimensions; ++i) {
        const Py_ssize_t extent = PyNumber_AsSsize_t(PyTuple_GET_ITEM(sizes.get(), i), PyExc_OverflowError);
        if (extent == -1 && PyErr_Occurred() != nullptr) return false;
        shape.extents[static_cast<std::size_t>(i)] = extent;
    }
    return true;
}

// `dtype`: a name, a struct letter, or whatever has one of these as its `name` or `str()`, as numpy's do.
const ElementType* parse_element_type(PyObject* object) {
    const Reference text = Reference::adopt(PyObject_Str(object));
    const char* name = text ? PyUnicode_AsUTF8(text.get()) : nullptr;
    if (name == nullptr) return nullptr;
    const ElementType* type = find_element_type(name);
    if (type == nullptr) {
        std::string known;
        for (const ElementType& each : kElementTypes)
            known += (known.empty() ? "" : ", ") + std::string(each.name);
        PyErr_Format(PyExc_ValueError, "unknown dtype %R; there are %s", object, known.c_str());
    }
    return type;
}

PyObject* view(PyObject* self, PyObject* args, PyObject* keywords) {
    static const char* const names[] = {"shape", "dtype", nullptr};
    PyObject* shape_object = Py_None;
    PyObject* type_object = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|OO:view", const_cast<char**>(names), &shape_object,
                                     &type_object)) {
        return nullptr;
    }
    ModuleState* state = state_of_type(Py_TYPE(self));
    if (state == nullptr) return nullptr;
    const BufferView& whole = view_of(self);
    const ElementType* type = &whole.type();
    if (type_object != Py_None) type = parse_element_type(type_object);
    if (type == nullptr) return nullptr;
    BufferView::Shape shape{1, {-1}};
    if (shape_object != Py_None && !parse_shape(shape_object, shape)) return nullptr;
    Result<Ref<BufferView>> made = whole.view(shape, *type);
    if (!made) return raise_error(*state, made.error());
    return wrap_like(self, std::move(*made));
}

PyObject* cast(PyObject* self, PyObject* dtype) {
    const Reference args = Reference::adopt(PyTuple_Pack(2, Py_None, dtype));
    return args ? view(self, args.get(), nullptr) : nullptr;
}

PyObject* to_read_only(PyObject* self, PyObject* /*unused*/) {
    return wrap_like(self, view_of(self).read_only());
}

PyObject* freeze(PyObject* self, PyObject* /*unused*/) {
    if (!view_of(self).buffer().freeze()) {
        PyErr_SetString(
            PyExc_BufferError,
            "cannot freeze while somebody, in some interpreter, can write: release writable memoryviews "
            "and arrays made from this buffer first");
        return nullptr;
    }
    return Py_NewRef(self);
}

PyObject* to_bytes(PyObject* self, PyObject* /*unused*/) {
    const BufferView& all = view_of(self);
    return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(all.data()),
                                     static_cast<Py_ssize_t>(all.size()));
}

PyObject* to_list(PyObject* self, PyObject* /*unused*/) {
    const Reference memory = Reference::adopt(PyMemoryView_FromObject(self));
    return memory ? PyObject_CallMethod(memory.get(), "tolist", nullptr) : nullptr;
}

// DLPack.

// A pair of ints, or None, which leaves them.
bool read_pair(PyObject* object, const char* name, int& first, int& second) {
    if (object == Py_None) return true;
    const bool pair = PyTuple_Check(object) != 0 && PyTuple_GET_SIZE(object) == 2 &&
                      PyLong_Check(PyTuple_GET_ITEM(object, 0)) != 0 &&
                      PyLong_Check(PyTuple_GET_ITEM(object, 1)) != 0;
    if (!pair) {
        PyErr_Format(PyExc_TypeError, "%s must be a tuple of two ints or None, not %R", name, object);
        return false;
    }
    first = PyLong_AsInt(PyTuple_GET_ITEM(object, 0));
    if (first != -1 || PyErr_Occurred() == nullptr) second = PyLong_AsInt(PyTuple_GET_ITEM(object, 1));
    return PyErr_Occurred() == nullptr;
}

PyObject* dlpack(PyObject* self, PyObject* args, PyObject* keywords) {
    static const char* const names[] = {"stream", "max_version", "dl_device", "copy", nullptr};
    PyObject* stream = Py_None;
    PyObject* max_version = Py_None;
    PyObject* device = Py_None;
    PyObject* copy = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|$OOOO:__dlpack__", const_cast<char**>(names), &stream,
                                     &max_version, &device, &copy)) {
        return nullptr;
    }
    int major = 0;
    int minor = 0;
    int device_type = dlpack::kCpu;
    int device_id = 0;
    if (!read_pair(max_version, "max_version", major, minor)) return nullptr;
    if (!read_pair(device, "dl_device", device_type, device_id)) return nullptr;
    if (device_type != dlpack::kCpu) {
        PyErr_SetString(PyExc_BufferError, "a SharedBuffer is in the memory of the CPU");
        return nullptr;
    }
    if (copy == Py_True) {
        PyErr_SetString(PyExc_BufferError, "a SharedBuffer is exported without a copy; copy the result");
        return nullptr;
    }
    return make_dlpack_capsule(view_of(self), major >= 1);
}

PyObject* dlpack_device(PyObject* /*self*/, PyObject* /*unused*/) {
    return Py_BuildValue("(ii)", dlpack::kCpu, 0);
}

// Looks.

PyObject* compare(PyObject* self, PyObject* other, int operation) {
    ModuleState* state = state_of_type(Py_TYPE(self));
    if (state == nullptr) return nullptr;
    const BufferView* theirs = buffer_view_of(*state, other);
    if (theirs == nullptr || (operation != Py_EQ && operation != Py_NE)) Py_RETURN_NOTIMPLEMENTED;
    return PyBool_FromLong((view_of(self) == *theirs) == (operation == Py_EQ));
}

Py_hash_t hash(PyObject* self) { return Py_HashPointer(view_of(self).data()); }

PyObject* repr(PyObject* self) {
    const BufferView& all = view_of(self);
    const Reference shape = Reference::adopt(extents_tuple(all.shape()));
    if (!shape) return nullptr;
    return PyUnicode_FromFormat("<syncyte.SharedBuffer of %zu bytes, shape %R, %s%s>", all.size(),
                                shape.get(), all.type().name, all.writable() ? "" : ", read-only");
}

PyObject* get_nbytes(PyObject* self, void* /*unused*/) { return PyLong_FromSize_t(view_of(self).size()); }
PyObject* get_shape(PyObject* self, void* /*unused*/) { return extents_tuple(view_of(self).shape()); }
PyObject* get_strides(PyObject* self, void* /*unused*/) { return extents_tuple(view_of(self).strides()); }
PyObject* get_ndim(PyObject* self, void* /*unused*/) {
    return PyLong_FromLong(view_of(self).shape().dimensions);
}
PyObject* get_dtype(PyObject* self, void* /*unused*/) {
    return PyUnicode_FromString(view_of(self).type().name);
}
PyObject* get_itemsize(PyObject* self, void* /*unused*/) {
    return PyLong_FromLong(view_of(self).type().size);
}
PyObject* get_readonly(PyObject* self, void* /*unused*/) {
    return PyBool_FromLong(view_of(self).writable() ? 0 : 1);
}

PyMethodDef methods[] = {
    {"open", open, METH_O | METH_CLASS,
     "open(path, /)\n--\n\nThe contents of a file, read-only, mapped rather than read: pages are loaded as "
     "they are "
     "touched.\n\nOSError when it cannot be opened. The file must not shrink while it is in use."},
    {"attach", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(attach)),
     METH_VARARGS | METH_KEYWORDS | METH_CLASS,
     "attach(name, *, readonly=False)\n--\n\nA segment of multiprocessing.shared_memory, by its name: the "
     "memory of "
     "several processes.\n\nFileNotFoundError when there is none. Whoever created the segment unlinks it."},
    {"from_buffer", from_buffer, METH_O | METH_CLASS,
     "from_buffer(data, /)\n--\n\nA new buffer with a copy of `data`, anything with the buffer protocol "
     "(bytes, array, "
     "numpy array), in its shape and dtype."},
    {"view", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(view)), METH_VARARGS | METH_KEYWORDS,
     "view(shape=None, dtype=None)\n--\n\nThe same bytes in another shape (a size or a tuple; one of them "
     "may be -1) "
     "and dtype ('float32', 'f', ...).\n\nValueError when the sizes do not agree."},
    {"cast", cast, METH_O, "cast(dtype, /)\n--\n\nThe same bytes as a flat array of another dtype."},
    {"toreadonly", to_read_only, METH_NOARGS,
     "toreadonly()\n--\n\nA view through which nobody can write; others still may through theirs."},
    {"freeze", freeze, METH_NOARGS,
     "freeze()\n--\n\nMakes the memory read-only for everybody from now on; returns the "
     "buffer.\n\nBufferError while a "
     "writable memoryview or array of it exists in any interpreter."},
    {"tobytes", to_bytes, METH_NOARGS, "tobytes()\n--\n\nA copy of the contents."},
    {"tolist", to_list, METH_NOARGS, "tolist()\n--\n\nThe elements, as nested lists."},
    {"__dlpack__", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(dlpack)),
     METH_VARARGS | METH_KEYWORDS,
     "__dlpack__(*, stream=None, max_version=None, dl_device=None, copy=None)\n--\n\nExports the array, "
     "without a copy."},
    {"__dlpack_device__", dlpack_device, METH_NOARGS, "__dlpack_device__()\n--\n\nThe CPU."},
    {},
};

PyGetSetDef properties[] = {
    {"nbytes", get_nbytes, nullptr, "Size in bytes.", nullptr},
    {"shape", get_shape, nullptr, "Elements along each axis.", nullptr},
    {"strides", get_strides, nullptr, "Bytes from one element to the next, along each axis.", nullptr},
    {"ndim", get_ndim, nullptr, "Number of axes.", nullptr},
    {"dtype", get_dtype, nullptr, "Name of the element type, as numpy spells it.", nullptr},
    {"itemsize", get_itemsize, nullptr, "Bytes of an element.", nullptr},
    {"readonly", get_readonly, nullptr, "Whether writing through this view is impossible.", nullptr},
    {},
};

PyType_Slot slots[] = {
    {Py_tp_doc,
     const_cast<char*>(
         "SharedBuffer(nbytes)\n--\n\n"
         "Zeroed memory that every interpreter sees in the same place, freed when the last view of it\n"
         "anywhere is gone.\n\nAn array of bytes by default; view() gives it shape and dtype. "
         "memoryview(buffer), numpy.asarray(buffer) and\nslices share the memory. Access from several "
         "interpreters is not synchronised.\nMemoryError when there is not that much.")},
    {Py_tp_new, reinterpret_cast<void*>(make)},
    {Py_tp_repr, reinterpret_cast<void*>(repr)},
    {Py_tp_hash, reinterpret_cast<void*>(hash)},
    {Py_tp_richcompare, reinterpret_cast<void*>(compare)},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {Py_mp_length, reinterpret_cast<void*>(length)},
    {Py_mp_subscript, reinterpret_cast<void*>(subscript)},
    {Py_mp_ass_subscript, reinterpret_cast<void*>(assign)},
    {Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)},
    {Py_bf_releasebuffer, reinterpret_cast<void*>(release_buffer)},
    {0, nullptr},
};

PyType_Spec spec = {
    .name = "syncyte.SharedBuffer",
    .basicsize = sizeof(HandleObject),
    .itemsize = 0,
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

}  // namespace

const BufferView* buffer_view_of(const ModuleState& state, PyObject* object) {
    const Handle* handle = handle_of(state, object);
    if (handle == nullptr || handle->kind() != HandleKind::kBuffer) return nullptr;
    return static_cast<const BufferView*>(handle);
}

int register_buffer(PyObject* module, ModuleState& state) {
    return add_handle_type(module, state, spec, HandleKind::kBuffer) == nullptr ? -1 : 0;
}

}  // namespace syncyte::python
