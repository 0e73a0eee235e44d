// How things passed by reference look in Python, and how they travel: through our own queues as a reference
// in the Value, through anybody else's as a pickle that names them by number.
//
// A bound type makes itself one in its register function:
//
//     PyTypeObject* type = add_handle_type(module, state, spec, HandleKind::kQueue);
//
// Its instances are HandleObject, or begin with one. The base type gives it deallocation, weak references,
// equality and hash by what is referred to, __copy__ and __deepcopy__ (the same object) and __reduce__.
#pragma once

#include <Python.h>

#include <vector>

#include "python/state.h"
#include "value/handle.h"

namespace syncyte::python {

// The common head of all bound types that stand for a Handle.
struct HandleObject {
    PyObject_HEAD Handle* handle;  // one reference, owned; never null once the object is made
    PyObject* weakrefs;
};

// Derives the type of `spec` (Py_TPFLAGS_IMMUTABLETYPE, unless the package subclasses it) from Handle, adds
// it to the module under its last name, and makes it what handles of `kind` arrive as. `basicsize` at least
// sizeof(HandleObject); `tp_new`, where there is one, makes its instance by new_handle_object(). When the
// package itself subclasses the type in Python, `package_module` names the module that does; importing it
// calls _adopt_handle_type(subclass), and handles arrive as that. A borrowed reference, or nullptr with a
// Python error set.
PyTypeObject* add_handle_type(PyObject* module, ModuleState& state, PyType_Spec& spec, HandleKind kind,
                              const char* package_module = nullptr);

// For a kind whose objects need more than the handle: replaces the plain making of an instance.
void set_wrap(ModuleState& state, HandleKind kind, Wrap wrap);

// An instance of `type` that owns `handle`; members after the HandleObject are zero.
PyObject* new_handle_object(PyTypeObject* type, Ref<Handle> handle);

// The object that stands for `handle` in this interpreter. ImportError when its type cannot be had here.
PyObject* wrap_handle(ModuleState& state, Ref<Handle> handle);

// What `object` stands for; nullptr (no error set) when it is not a handle. Borrowed from `object`.
inline Handle* handle_of(const ModuleState& state, PyObject* object) {
    if (!PyObject_TypeCheck(object, reinterpret_cast<PyTypeObject*>(state.handle_type))) return nullptr;
    return reinterpret_cast<HandleObject*>(object)->handle;
}

// While it exists, handles pickled by this thread in this interpreter are collected in it rather than
// pinned: the message that carries the pickle keeps them alive for exactly as long as it lives.
struct PickleScope {
    explicit PickleScope(ModuleState& state);
    PickleScope(const PickleScope&) = delete;
    PickleScope& operator=(const PickleScope&) = delete;
    ~PickleScope();

    std::vector<Ref<Handle>> handles;
    unsigned long thread;
    PickleScope* outer;

  private:
    ModuleState& state_;
};

int register_handles(PyObject* module, ModuleState& state);

}  // namespace syncyte::python
