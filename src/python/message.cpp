#include "python/message.h"

#include "python/convert.h"
#include "python/handles.h"

namespace syncyte::python {

namespace {

struct Message final : Handle {
    explicit Message(Value content) : Handle(HandleKind::kMessage), value(std::move(content)) {}
    const Value value;
};

const Message& message_of(PyObject* self) {
    return static_cast<const Message&>(*reinterpret_cast<HandleObject*>(self)->handle);
}

PyObject* make(PyTypeObject* type, PyObject* args, PyObject* keywords) {
    static const char* const names[] = {"", "pickle", nullptr};
    PyObject* object = nullptr;
    int pickle = 1;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|$p:Message", const_cast<char**>(names), &object,
                                     &pickle)) {
        return nullptr;
    }
    ModuleState* state = state_of_type(type);
    if (state == nullptr) return nullptr;
    std::optional<Value> value =
        to_value(*state, object, pickle != 0 ? Pickling::kAllowed : Pickling::kForbidden);
    if (!value) return nullptr;
    return new_handle_object(type, make_ref<Message>(std::move(*value)));
}

PyObject* get(PyObject* self, PyObject* /*unused*/) {
    ModuleState* state = state_of_type(Py_TYPE(self));
    return state == nullptr ? nullptr : from_value(*state, message_of(self).value);
}

PyObject* nbytes(PyObject* self, void* /*unused*/) {
    const Value& value = message_of(self).value;
    const auto* attachments = value.attachments();
    return PyLong_FromSize_t(value.bytes().size() +
                             (attachments == nullptr ? 0 : attachments->pickle.size()));
}

PyMethodDef methods[] = {
    {"get", get, METH_NOARGS, "A new object equal to the one the message was made of."},
    {},
};

PyGetSetDef properties[] = {
    {"nbytes", nbytes, nullptr, "Size of the message in bytes, pickle included.", nullptr},
    {},
};

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char*>("Message(object, /, *, pickle=True)\n--\n\n"
                                  "An object as it travels: converted once, received any number of times.")},
    {Py_tp_new, reinterpret_cast<void*>(make)},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {0, nullptr},
};

PyType_Spec spec = {
    .name = "syncyte._core.Message",
    .basicsize = sizeof(HandleObject),
    .itemsize = 0,
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

}  // namespace

int register_message(PyObject* module, ModuleState& state) {
    return add_handle_type(module, state, spec, HandleKind::kMessage) == nullptr ? -1 : 0;
}

}  // namespace syncyte::python
