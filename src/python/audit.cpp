#include "python/audit.h"

#include <dlfcn.h>

#include <cstring>
#include <string>

namespace syncyte::python {

namespace {

using Init = PyObject* (*)();

struct Declaration {
    const char* init = "single";
    const char* interpreters = nullptr;
    const char* gil = nullptr;
};

const char* interpreters_word(const void* value) {
    if (value == Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED) return "not supported";
    if (value == Py_MOD_MULTIPLE_INTERPRETERS_SUPPORTED) return "shared GIL only";
    if (value == Py_MOD_PER_INTERPRETER_GIL_SUPPORTED) return "own GIL";
    return "unknown value";
}

Declaration read_slots(const PyModuleDef* def) {
    Declaration found{.init = "multi"};
    for (const PyModuleDef_Slot* slot = def->m_slots; slot != nullptr && slot->slot != 0; ++slot) {
        if (slot->slot == Py_mod_multiple_interpreters) found.interpreters = interpreters_word(slot->value);
        if (slot->slot == Py_mod_gil) found.gil = slot->value == Py_MOD_GIL_NOT_USED ? "not used" : "used";
    }
    return found;
}

Init builtin_init(const char* name) {
    for (const _inittab* entry = PyImport_Inittab; entry->name != nullptr; ++entry) {
        if (std::strcmp(entry->name, name) == 0) return entry->initfunc;
    }
    return nullptr;
}

// The library stays loaded: the caller is a child process made for this, and a module whose code went
// away could not even be released.
Init library_init(const char* name, const char* path) {
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        PyErr_Format(PyExc_ImportError, "cannot load the library: %s", dlerror());
        return nullptr;
    }
    const char* dot = std::strrchr(name, '.');
    const std::string symbol = std::string("PyInit_") + (dot == nullptr ? name : dot + 1);
    auto* init = reinterpret_cast<Init>(dlsym(library, symbol.c_str()));
    if (init == nullptr) {
        PyErr_Format(PyExc_LookupError, "%s has no %s: a library, not an extension module", path,
                     symbol.c_str());
    }
    return init;
}

PyObject* inspect_extension(PyObject* /*module*/, PyObject* args) {
    const char* name = nullptr;
    const char* path = nullptr;
    if (PyArg_ParseTuple(args, "sz:_inspect_extension", &name, &path) == 0) return nullptr;
    const Init init = path == nullptr ? builtin_init(name) : library_init(name, path);
    if (init == nullptr) {
        if (PyErr_Occurred() == nullptr) PyErr_Format(PyExc_LookupError, "no built-in module named %s", name);
        return nullptr;
    }
    PyObject* result = init();
    if (result == nullptr) {
        if (PyErr_Occurred() == nullptr) {
            PyErr_Format(PyExc_ImportError, "the init function of %s failed without saying why", name);
        }
        return nullptr;
    }
    Declaration found;
    // A multi-phase init function returns its definition, which it owns; a single-phase one the module.
    if (PyObject_TypeCheck(result, &PyModuleDef_Type)) {
        found = read_slots(reinterpret_cast<PyModuleDef*>(result));
    } else {
        Py_DECREF(result);
    }
    return Py_BuildValue("{s:s,s:z,s:z}", "init", found.init, "interpreters", found.interpreters, "gil",
                         found.gil);
}

PyMethodDef methods[] = {
    {"_inspect_extension", inspect_extension, METH_VARARGS,
     "How an extension module declares itself. Runs its init function: for child processes only."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

int register_audit(PyObject* module, ModuleState& /*state*/) {
    return PyModule_AddFunctions(module, methods);
}

}  // namespace syncyte::python
