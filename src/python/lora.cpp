#include "python/lora.h"

#include <utility>

#include "python/errors.h"
#include "python/handles.h"

namespace syncyte::python {

namespace {

// A user's hold on an adapter and its model, or with neither what is left after close().
class LoraHandle final : public Handle {
  public:
    LoraHandle(Ref<SharedModel> model, AppliedAdapter adapter, std::string path)
        : Handle(HandleKind::kLora),
          model_(std::move(model)),
          adapter_(std::move(adapter)),
          path_(std::move(path)) {}

    [[nodiscard]] bool closed() const { return adapter_.weights == nullptr; }
    [[nodiscard]] const AppliedAdapter& adapter() const { return adapter_; }
    [[nodiscard]] const std::string& path() const { return path_; }

  private:
    const Ref<SharedModel> model_;
    const AppliedAdapter adapter_;
    const std::string path_;
};

Ref<LoraHandle> handle_of_self(PyObject* object) {
    return Ref<LoraHandle>::share(static_cast<LoraHandle*>(reinterpret_cast<HandleObject*>(object)->handle));
}

PyObject* lora_close(PyObject* object, PyObject*) {
    // Others may hold the same handle: only this object lets go.
    const Ref<LoraHandle> before = handle_of_self(object);
    Ref<Handle> closed = make_ref<LoraHandle>(
        nullptr, AppliedAdapter{.weights = nullptr, .scale = before->adapter().scale}, before->path());
    const auto dropped =
        Ref<Handle>::adopt(std::exchange(reinterpret_cast<HandleObject*>(object)->handle, closed.leak()));
    Py_RETURN_NONE;
}

PyObject* lora_enter(PyObject* object, PyObject*) { return Py_NewRef(object); }

PyObject* lora_exit(PyObject* object, PyObject*) { return lora_close(object, nullptr); }

PyObject* lora_closed(PyObject* object, void*) {
    return PyBool_FromLong(handle_of_self(object)->closed() ? 1 : 0);
}

PyObject* lora_path(PyObject* object, void*) {
    const Ref<LoraHandle> handle = handle_of_self(object);
    return PyUnicode_DecodeFSDefaultAndSize(handle->path().data(),
                                            static_cast<Py_ssize_t>(handle->path().size()));
}

PyObject* lora_scale(PyObject* object, void*) {
    return PyFloat_FromDouble(handle_of_self(object)->adapter().scale);
}

PyObject* lora_repr(PyObject* object) {
    if (handle_of_self(object)->closed()) return PyUnicode_FromString("<syncyte.Lora, closed>");
    PyObject* path = lora_path(object, nullptr);
    PyObject* scale = lora_scale(object, nullptr);
    PyObject* text = path == nullptr || scale == nullptr
                         ? nullptr
                         : PyUnicode_FromFormat("<syncyte.Lora %R, scale=%S>", path, scale);
    Py_XDECREF(path);
    Py_XDECREF(scale);
    return text;
}

PyMethodDef methods[] = {
    {"close", lora_close, METH_NOARGS,
     "close()\n--\n\nLets the adapter go; the last user's close frees it. Running requests go on."},
    {"__enter__", lora_enter, METH_NOARGS, nullptr},
    {"__exit__", lora_exit, METH_VARARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef getters[] = {
    {"closed", lora_closed, nullptr, "Whether close() was called.", nullptr},
    {"path", lora_path, nullptr, "The file, as it was named.", nullptr},
    {"scale", lora_scale, nullptr, "How much the adapter counts.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

constexpr const char* kDoc =
    "A LoRA adapter, loaded by Model.lora() for the requests that ask for it by lora=.\n\n"
    "It travels to other interpreters like the model. The adapter stays in memory until its last user in "
    "any\n"
    "interpreter has closed or dropped it and its last request has ended; it keeps the model open.";

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char*>(kDoc)},
    {Py_tp_repr, reinterpret_cast<void*>(lora_repr)},
    {Py_tp_methods, methods},
    {Py_tp_getset, getters},
    {0, nullptr},
};

PyType_Spec spec = {
    .name = "syncyte.Lora",
    .basicsize = sizeof(HandleObject),
    .itemsize = 0,
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

}  // namespace

PyObject* make_lora(ModuleState& state, Ref<SharedModel> model, AppliedAdapter adapter, std::string path) {
    return wrap_handle(state, make_ref<LoraHandle>(std::move(model), std::move(adapter), std::move(path)));
}

bool read_lora(PyObject* object, AppliedAdapter& into) {
    if (Py_IsNone(object) != 0) return true;
    const ModuleState* state = state_of_type(Py_TYPE(object));
    Handle* handle = state == nullptr ? nullptr : handle_of(*state, object);
    if (handle == nullptr || handle->kind() != HandleKind::kLora) {
        PyErr_Format(PyExc_TypeError, "lora must be what Model.lora() gives, or None, not %T", object);
        return false;
    }
    const Ref<LoraHandle> lora = handle_of_self(object);
    if (lora->closed()) {
        raise_error(*state, Error(ErrorCode::kClosed, "the LoRA adapter is closed"));
        return false;
    }
    into = lora->adapter();
    return true;
}

int register_lora(PyObject* module, ModuleState& state) {
    return add_handle_type(module, state, spec, HandleKind::kLora) == nullptr ? -1 : 0;
}

}  // namespace syncyte::python
