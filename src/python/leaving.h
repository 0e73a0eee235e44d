// What an interpreter lets go of when it ends, even where its objects are never deallocated: a wait that
// others might still serve, an end of a channel that others wait on.
#pragma once

#include <Python.h>

namespace syncyte::python {

struct ModuleState;

// A member of an object that wants to be told. In the list from add_leaver() until remove_leaver() or the end
// of the interpreter, whichever comes first; both may be called by attached threads only.
struct Leaver {
    Leaver* next;  // null: not in the list
    Leaver* previous;
    void (*leave)(Leaver*);  // called once, after the leaver was taken out of the list
};

void add_leaver(ModuleState& state, Leaver& leaver, void (*leave)(Leaver*));
void remove_leaver(Leaver& leaver);

int register_leaving(PyObject* module, ModuleState& state);
// When the module is freed.
void unregister_leaving(ModuleState& state);

}  // namespace syncyte::python
