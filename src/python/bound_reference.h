// How pools and tasks travel: messages carry a reference, which arrives as the _core.Pool or _core.Task
// itself.
#pragma once

#include <Python.h>

#include "python/crew.h"
#include "python/pool.h"
#include "python/state.h"
#include "python/task.h"
#include "value/handle.h"

namespace syncyte::python {

struct PoolReference final : Handle {
    PoolReference(Ref<Pool> which, Ref<Crew> of)
        : Handle(HandleKind::kPool), pool(std::move(which)), crew(std::move(of)) {}

    const Ref<Pool> pool;
    const Ref<Crew> crew;
};

struct TaskReference final : Handle {
    TaskReference(Ref<Task> which, Ref<Pool> of)
        : Handle(HandleKind::kFuture), task(std::move(which)), pool(std::move(of)) {}

    const Ref<Task> task;
    const Ref<Pool> pool;
};

// An object to be pickled, or put into a message, in place of what `reference` refers to. Who owns that keeps
// `reference` as well: a pickle in flight holds the number alone.
PyObject* travelling(ModuleState& state, const Ref<Handle>& reference);

// _core.PoolReference, _core.TaskReference. After register_handles.
int register_references(PyObject* module, ModuleState& state);

}  // namespace syncyte::python
