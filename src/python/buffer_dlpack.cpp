#include <memory>
#include <type_traits>

#include "python/buffer.h"
#include "python/dlpack.h"

namespace syncyte::python {

namespace {

constexpr const char* kName = "dltensor";
constexpr const char* kVersionedName = "dltensor_versioned";

// Keeps the view, and a writer's share while the consumer may write. Freed by the consumer on any thread,
// or with the capsule when nobody consumed it.
template <class Managed>
struct Export {
    Managed managed;
    Ref<const BufferView> view;
    BufferView::Shape shape;
    BufferView::Shape strides;  // in elements
    bool writing;

    static void free(Managed* managed) {
        auto* self = static_cast<Export*>(managed->context);
        if (self->writing) self->view->buffer().end_writing();
        delete self;
    }
};

template <class Managed>
void free_unused(PyObject* capsule) {
    const char* name = std::is_same_v<Managed, dlpack::Managed> ? kName : kVersionedName;
    if (PyCapsule_IsValid(capsule, name) == 0) return;  // consumed, hence renamed
    auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
    managed->deleter(managed);
}

template <class Managed>
Export<Managed>* make_export(const BufferView& view, bool writing) {
    auto self = std::make_unique<Export<Managed>>();
    self->view = Ref<const BufferView>::share(&view);
    self->shape = view.shape();
    self->strides = view.strides();
    for (std::int64_t& stride : self->strides.extents) stride /= view.type().size;
    self->writing = writing;
    self->managed.tensor = {
        .data = view.data(),
        .device = {.type = dlpack::kCpu, .id = 0},
        .dimensions = view.shape().dimensions,
        .type = {.code = view.type().dlpack_code,
                 .bits = static_cast<std::uint8_t>(view.type().size * 8),
                 .lanes = 1},
        .shape = self->shape.extents.data(),
        .strides = self->strides.extents.data(),
        .byte_offset = 0,
    };
    self->managed.context = self.get();
    self->managed.deleter = Export<Managed>::free;
    return self.release();
}

template <class Managed>
PyObject* as_capsule(Export<Managed>* made, const char* name) {
    PyObject* capsule = PyCapsule_New(&made->managed, name, free_unused<Managed>);
    if (capsule == nullptr) Export<Managed>::free(&made->managed);
    return capsule;
}

}  // namespace

PyObject* make_dlpack_capsule(const BufferView& view, bool versioned) {
    const bool writing = view.writable_view() && view.buffer().begin_writing();
    if (versioned) {
        auto* made = make_export<dlpack::ManagedVersioned>(view, writing);
        made->managed.version = {.major = 1, .minor = 0};
        made->managed.flags = writing ? 0 : dlpack::kReadOnly;
        return as_capsule(made, kVersionedName);
    }
    if (!writing) {
        PyErr_SetString(PyExc_BufferError,
                        "a read-only buffer can be exported only to consumers of DLPack 1.0 or later "
                        "(max_version=(1, 0))");
        return nullptr;
    }
    return as_capsule(make_export<dlpack::Managed>(view, writing), kName);
}

}  // namespace syncyte::python
