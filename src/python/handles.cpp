#include "python/handles.h"

#include <cstddef>
#include <cstring>

#include "python/stdlib_doors.h"
#include "value/directory.h"

namespace syncyte::python {

namespace {

HandleObject* as_handle(PyObject* self) { return reinterpret_cast<HandleObject*>(self); }

void dealloc(PyObject* self) {
    PyTypeObject* type = Py_TYPE(self);
    if (PyType_IS_GC(type)) PyObject_GC_UnTrack(self);
    HandleObject* object = as_handle(self);
    if (object->weakrefs != nullptr) PyObject_ClearWeakRefs(self);
    if (object->handle != nullptr) object->handle->release();
    type->tp_free(self);
    Py_DECREF(type);
}

PyObject* compare(PyObject* self, PyObject* other, int operation) {
    ModuleState* state = state_of_type(Py_TYPE(self));
    if (state == nullptr) return nullptr;
    const Handle* theirs = handle_of(*state, other);
    if (theirs == nullptr || (operation != Py_EQ && operation != Py_NE)) Py_RETURN_NOTIMPLEMENTED;
    return PyBool_FromLong((as_handle(self)->handle == theirs) == (operation == Py_EQ));
}

Py_hash_t hash(PyObject* self) { return Py_HashPointer(as_handle(self)->handle); }

PyObject* itself(PyObject* self, PyObject* /*memo*/) { return Py_NewRef(self); }

// Pickling: a number, and something that keeps the handle alive until the number is looked up.
PyObject* reduce(PyObject* self, PyObject* /*unused*/) {
    ModuleState* state = state_of_type(Py_TYPE(self));
    if (state == nullptr) return nullptr;
    const Ref<Handle> handle = Ref<Handle>::share(as_handle(self)->handle);
    const unsigned long thread = PyThread_get_thread_ident();
    PickleScope* scope = state->pickle_scopes;
    while (scope != nullptr && scope->thread != thread) scope = scope->outer;
    if (scope != nullptr) {
        scope->handles.push_back(handle);
    } else {
        pin_handle(handle);
    }
    return Py_BuildValue("O(KKs)", state->restore_handle, static_cast<unsigned long long>(process_identity()),
                         static_cast<unsigned long long>(handle->id()), Py_TYPE(self)->tp_name);
}

PyObject* restore(PyObject* module, PyObject* args) {
    unsigned long long process = 0;
    unsigned long long id = 0;
    const char* name = nullptr;
    if (!PyArg_ParseTuple(args, "KKs:_restore_handle", &process, &id, &name)) return nullptr;
    ModuleState& state = state_of(module);
    if (process != process_identity()) {
        return PyErr_Format(state.error,
                            "a %s belongs to the process that made it and cannot travel to another process; "
                            "interpreters and threads of that process can receive it",
                            name);
    }
    Ref<Handle> handle = find_handle(id);
    if (!handle) {
        return PyErr_Format(
            state.closed_error,
            "the %s is gone: its last owner let go of it before this pickle of it was loaded; "
            "keep a reference until it has arrived",
            name);
    }
    return wrap_handle(state, std::move(handle));
}

PyObject* adopt_handle_type(PyObject* module, PyObject* type) {
    ModuleState& state = state_of(module);
    if (PyType_Check(type)) {
        for (PyTypeObject*& known : state.handle_types) {
            if (known == nullptr || PyType_IsSubtype(reinterpret_cast<PyTypeObject*>(type), known) == 0)
                continue;
            state.handle_modules[&known - state.handle_types] = nullptr;
            if (open_stdlib_doors(reinterpret_cast<PyTypeObject*>(type)) < 0) return nullptr;
            Py_SETREF(known, reinterpret_cast<PyTypeObject*>(Py_NewRef(type)));
            return Py_NewRef(type);
        }
    }
    return PyErr_Format(PyExc_TypeError, "%R is not a subclass of a handle type of syncyte._core", type);
}

PyObject* pinned(PyObject* /*module*/, PyObject* /*unused*/) { return PyLong_FromSize_t(pinned_handles()); }

PyMethodDef methods[] = {
    {"__reduce__", reduce, METH_NOARGS, "Pickles a reference; only this process can load it."},
    {"__copy__", itself, METH_NOARGS, "The object itself: what it refers to is shared."},
    {"__deepcopy__", itself, METH_O, "The object itself: what it refers to is shared."},
    {},
};

PyMemberDef members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(HandleObject, weakrefs), Py_READONLY, nullptr},
    {},
};

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char*>("Base of what travels between interpreters by reference.")},
    {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
    {Py_tp_richcompare, reinterpret_cast<void*>(compare)},
    {Py_tp_hash, reinterpret_cast<void*>(hash)},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {0, nullptr},
};

PyType_Spec spec = {
    .name = "syncyte._core.Handle",
    .basicsize = sizeof(HandleObject),
    .itemsize = 0,
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

PyMethodDef functions[] = {
    {"_restore_handle", restore, METH_VARARGS, "Loads what a handle's __reduce__ made."},
    {"_adopt_handle_type", adopt_handle_type, METH_O,
     "Makes a Python subclass of a handle type what its handles arrive as; returns it, to decorate a class."},
    {"_pinned_handles", pinned, METH_NOARGS, "How many pickled handles wait to be loaded."},
    {},
};

}  // namespace

PickleScope::PickleScope(ModuleState& state)
    : thread(PyThread_get_thread_ident()), outer(state.pickle_scopes), state_(state) {
    state.pickle_scopes = this;
}

// Threads of one interpreter take turns, so scopes need not end in the reverse order of their beginning.
PickleScope::~PickleScope() {
    PickleScope** link = &state_.pickle_scopes;
    while (*link != this) link = &(*link)->outer;
    *link = outer;
}

PyTypeObject* add_handle_type(PyObject* module, ModuleState& state, PyType_Spec& type_spec, HandleKind kind,
                              const char* package_module) {
    PyObject* type = PyType_FromModuleAndSpec(module, &type_spec, state.handle_type);
    if (type == nullptr) return nullptr;
    const auto index = static_cast<std::size_t>(kind);
    Py_XSETREF(state.handle_types[index], reinterpret_cast<PyTypeObject*>(type));
    state.handle_modules[index] = package_module;
    const char* name = std::strrchr(type_spec.name, '.');
    if (PyModule_AddObjectRef(module, name == nullptr ? type_spec.name : name + 1, type) < 0 ||
        open_stdlib_doors(reinterpret_cast<PyTypeObject*>(type)) < 0) {
        return nullptr;
    }
    return reinterpret_cast<PyTypeObject*>(type);
}

void set_wrap(ModuleState& state, HandleKind kind, Wrap wrap) {
    state.wraps[static_cast<std::size_t>(kind)] = wrap;
}

PyObject* new_handle_object(PyTypeObject* type, Ref<Handle> handle) {
    PyObject* self = type->tp_alloc(type, 0);
    if (self == nullptr) return nullptr;
    as_handle(self)->handle = handle.leak();
    return self;
}

PyObject* wrap_handle(ModuleState& state, Ref<Handle> handle) {
    const auto kind = static_cast<std::size_t>(handle->kind());
    if (state.handle_modules[kind] != nullptr) {
        PyObject* package_module = PyImport_ImportModule(state.handle_modules[kind]);
        if (package_module == nullptr) return nullptr;
        Py_DECREF(package_module);
        state.handle_modules[kind] = nullptr;
    }
    if (state.wraps[kind] != nullptr) return state.wraps[kind](state, std::move(handle));
    PyTypeObject* type = state.handle_types[kind];
    if (type == nullptr) {
        return PyErr_Format(PyExc_ImportError, "this interpreter has no type for handles of kind %zu", kind);
    }
    return new_handle_object(type, std::move(handle));
}

int register_handles(PyObject* module, ModuleState& state) {
    state.handle_type = PyType_FromModuleAndSpec(module, &spec, nullptr);
    if (state.handle_type == nullptr || PyModule_AddFunctions(module, functions) < 0 ||
        PyModule_AddObjectRef(module, "Handle", state.handle_type) < 0) {
        return -1;
    }
    state.restore_handle = PyObject_GetAttrString(module, "_restore_handle");
    return state.restore_handle == nullptr ? -1 : 0;
}

}  // namespace syncyte::python
