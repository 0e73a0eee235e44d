#include "python/bound_pool.h"

#include <optional>
#include <string>
#include <utility>

#include "python/attach.h"
#include "python/bound_map.h"
#include "python/bound_task.h"
#include "python/convert.h"
#include "python/crew.h"
#include "python/errors.h"
#include "python/pool.h"
#include "python/wait.h"

namespace syncyte::python {

namespace {

struct CrewObject {
    PyObject_HEAD Ref<Crew> crew;
};

struct PoolObject {
    PyObject_HEAD Ref<Pool> pool;
    Ref<Crew> crew;
};

Crew& crew_of(PyObject* self) { return *reinterpret_cast<CrewObject*>(self)->crew; }
PoolObject* cast(PyObject* self) { return reinterpret_cast<PoolObject*>(self); }
Pool& pool_of(PyObject* self) { return *cast(self)->pool; }
ModuleState& state_here(PyObject* self) { return state_of(PyType_GetModule(Py_TYPE(self))); }

// None, or nullptr with the error set.
PyObject* none_or_error(PyObject* self, const Result<void>& done) {
    if (done) Py_RETURN_NONE;
    if (done.error().code == ErrorCode::kInterrupted) return nullptr;
    return raise_error(state_here(self), done.error());
}

PyObject* new_crew(PyTypeObject* type, PyObject*, PyObject*) {
    PyObject* self = type->tp_alloc(type, 0);
    if (self == nullptr) return nullptr;
    new (&reinterpret_cast<CrewObject*>(self)->crew) Ref<Crew>(make_ref<Crew>(PyInterpreterState_Get()));
    return self;
}

void dealloc_crew(PyObject* self) {
    PyTypeObject* type = Py_TYPE(self);
    reinterpret_cast<CrewObject*>(self)->crew.~Ref();
    type->tp_free(self);
    Py_DECREF(type);
}

PyObject* open_pool(PyObject* self, PyObject* args) {
    ModuleState& state = state_here(self);
    int size = 0;
    Py_ssize_t max_pending = 0;
    const char* name = nullptr;
    PyObject* setup = nullptr;
    if (!PyArg_ParseTuple(args, "insO:open_pool", &size, &max_pending, &name, &setup)) return nullptr;
    std::optional<Value> value = to_value(state, setup);
    if (!value) return nullptr;
    auto* type = reinterpret_cast<PyTypeObject*>(state.pool_type);
    PyObject* object = type->tp_alloc(type, 0);
    if (object == nullptr) return nullptr;
    const Ref<Crew>& crew = reinterpret_cast<CrewObject*>(self)->crew;
    crew->notifier()->start();
    auto pool = make_ref<Pool>(size, static_cast<std::size_t>(max_pending), std::string(name),
                               std::move(*value), crew->notifier(), crew->supervisor());
    const Result<void> staffed = crew->staff(pool, 0, size);
    new (&cast(object)->pool) Ref<Pool>(std::move(pool));
    new (&cast(object)->crew) Ref<Crew>(crew);
    if (staffed) return object;
    Py_DECREF(object);
    return raise_error(state, staffed.error());
}

// dismiss(): no pools any more; ends the workers once theirs are done.
PyObject* dismiss(PyObject* self, PyObject*) {
    crew_of(self).dismiss();
    Py_RETURN_NONE;
}

PyObject* wait_gone(PyObject* self, PyObject* timeout) {
    Deadline deadline = Deadline::never();
    if (!parse_timeout(timeout, deadline)) return nullptr;
    Crew& crew = crew_of(self);
    return none_or_error(self,
                         call_detached(deadline, [&](Deadline until) { return crew.wait_gone(until); }));
}

PyObject* interrupt_all(PyObject* self, PyObject*) {
    Crew& crew = crew_of(self);
    const Detached detached;
    crew.interrupt(nullptr, nullptr);
    return Py_NewRef(Py_None);
}

PyObject* stop(PyObject* self, PyObject*) {
    const Ref<Crew> crew = reinterpret_cast<CrewObject*>(self)->crew;
    const Detached detached;
    crew->supervisor()->stop();
    crew->notifier()->stop();
    return Py_NewRef(Py_None);
}

// watch(task): _deliver() will be told of its end; False if it has ended.
PyObject* watch(PyObject* self, PyObject* object) {
    const Ref<Task>* task = task_of(state_here(self), object);
    if (task == nullptr) return nullptr;
    return PyBool_FromLong((*task)->watch(crew_of(self).notifier()));
}

void dealloc_pool(PyObject* self) {
    PyTypeObject* type = Py_TYPE(self);
    if (cast(self)->pool) cast(self)->pool->close();
    cast(self)->pool.~Ref();
    cast(self)->crew.~Ref();
    type->tp_free(self);
    Py_DECREF(type);
}

// A number of seconds, or 0 for None. False with a Python error set.
bool parse_seconds(PyObject* object, double& seconds) {
    seconds = object == Py_None ? 0 : PyFloat_AsDouble(object);
    return seconds != -1.0 || PyErr_Occurred() == nullptr;
}

// submit(function, args, kwargs or None[, timeout or None, deadline or None, priority, place]) -> Task.
// ClosedError after close().
PyObject* submit(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    ModuleState& state = state_here(self);
    if (count != 3 && count != 7) {
        PyErr_SetString(PyExc_TypeError,
                        "submit(function, args, kwargs[, timeout, deadline, priority, place])");
        return nullptr;
    }
    double timeout = 0;
    double deadline = 0;
    int priority = 0;
    int place = -1;
    if (count == 7) {
        if (!parse_seconds(args[3], timeout) || !parse_seconds(args[4], deadline)) return nullptr;
        priority = PyLong_AsInt(args[5]);
        place = PyLong_AsInt(args[6]);
        if (PyErr_Occurred() != nullptr) return nullptr;
    }
    const Ref<Function>* function = function_of(state, args[0]);
    if (function == nullptr) return nullptr;
    std::optional<Value> positional = to_value(state, args[1]);
    if (!positional) return nullptr;
    std::optional<Value> named = args[2] == Py_None ? Value{} : to_value(state, args[2]);
    if (!named) return nullptr;
    auto task = make_ref<Task>(*function, std::move(*positional), std::move(*named), timeout);
    Pool& pool = pool_of(self);
    const auto send = [&](Deadline until) {
        Ref<Job> job = task;
        return place >= 0 ? pool.submit_to(place, std::move(job))
                          : pool.submit(std::move(job), priority, until);
    };
    Result<void> sent = send(Deadline::now());
    if (!sent && sent.error().code == ErrorCode::kTimedOut) sent = call_detached(Deadline::never(), send);
    if (!sent) return none_or_error(self, sent);
    if (deadline != 0) {
        // time.monotonic() reads the same clock.
        const Clock::time_point when(
            std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(deadline)));
        pool.supervisor()->limit(task, cast(self)->pool, when);
    }
    return wrap_task(state, std::move(task), cast(self)->pool);
}

// map(function, [args, ...], chunk) -> Map
PyObject* map(PyObject* self, PyObject* args) {
    PyObject* function = nullptr;
    PyObject* items = nullptr;
    Py_ssize_t chunk = 0;
    if (!PyArg_ParseTuple(args, "OO!n:map", &function, &PyList_Type, &items, &chunk)) return nullptr;
    return start_map(state_here(self), cast(self)->pool, function, items, static_cast<std::size_t>(chunk));
}

PyObject* close(PyObject* self, PyObject*) {
    pool_of(self).close();
    Py_RETURN_NONE;
}

// interrupt(): raises TaskInterrupted in every task of the pool that runs now.
PyObject* interrupt(PyObject* self, PyObject*) {
    const Ref<Pool> pool = cast(self)->pool;
    const Ref<Crew> crew = cast(self)->crew;
    const Detached detached;
    crew->interrupt(pool.get(), nullptr);
    return Py_NewRef(Py_None);
}

// cancel_waiting(): every task that has not started ends as cancelled.
PyObject* cancel_waiting(PyObject* self, PyObject*) {
    pool_of(self).abandon_waiting(Error(ErrorCode::kCancelled));
    Py_RETURN_NONE;
}

// break_waiting(message): every task that has not started fails.
PyObject* break_waiting(PyObject* self, PyObject* message) {
    const char* text = PyUnicode_AsUTF8(message);
    if (text == nullptr) return nullptr;
    pool_of(self).abandon_waiting(Error(ErrorCode::kClosed, text));
    Py_RETURN_NONE;
}

PyObject* wait_ready(PyObject* self, PyObject* timeout) {
    Deadline deadline = Deadline::never();
    if (!parse_timeout(timeout, deadline)) return nullptr;
    Pool& pool = pool_of(self);
    return none_or_error(self,
                         call_detached(deadline, [&](Deadline until) { return pool.wait_ready(until); }));
}

PyObject* wait_left(PyObject* self, PyObject* timeout) {
    Deadline deadline = Deadline::never();
    if (!parse_timeout(timeout, deadline)) return nullptr;
    Pool& pool = pool_of(self);
    return none_or_error(self,
                         call_detached(deadline, [&](Deadline until) { return pool.wait_left(until); }));
}

PyObject* failure(PyObject* self, PyObject*) {
    const TaskOutcome* outcome = pool_of(self).failure();
    if (outcome == nullptr) Py_RETURN_NONE;
    return failure_tuple(state_here(self), *outcome);
}

// stats() -> [(state, interpreter id, tasks, busy seconds, replacements), ...], by worker.
PyObject* stats(PyObject* self, PyObject*) {
    Pool& pool = pool_of(self);
    PyObject* list = PyList_New(pool.size());
    const std::int64_t now = Clock::now().time_since_epoch().count();
    for (int index = 0; list != nullptr && index < pool.size(); ++index) {
        const WorkerRecord& record = pool.record(index);
        const std::int64_t since = record.busy_since_ns.load(std::memory_order_relaxed);
        const std::int64_t busy =
            record.busy_ns.load(std::memory_order_relaxed) + (since != 0 ? now - since : 0);
        PyObject* entry = Py_BuildValue(
            "(iLKdK)", static_cast<int>(record.state.load(std::memory_order_relaxed)),
            static_cast<long long>(record.interpreter.load(std::memory_order_relaxed)),
            static_cast<unsigned long long>(record.tasks.load(std::memory_order_relaxed)),
            static_cast<double>(busy) * 1e-9,
            static_cast<unsigned long long>(record.replacements.load(std::memory_order_relaxed)));
        if (entry == nullptr)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, index, entry);
    }
    return list;
}

PyObject* get_id(PyObject* self, void*) { return PyLong_FromUnsignedLongLong(pool_of(self).id()); }
PyObject* get_pending(PyObject* self, void*) { return PyLong_FromSize_t(pool_of(self).pending()); }

// The address of the calling interpreter's state, for the workers that will enter it.
PyObject* interpreter_address(PyObject*, PyObject*) {
    return PyLong_FromUnsignedLongLong(reinterpret_cast<std::uintptr_t>(PyInterpreterState_Get()));
}

PyObject* add_type(PyObject* module, const char* name, PyType_Spec& spec) {
    PyObject* type = PyType_FromModuleAndSpec(module, &spec, nullptr);
    if (type != nullptr && PyModule_AddObjectRef(module, name, type) < 0) Py_CLEAR(type);
    return type;
}

PyMethodDef crew_methods[] = {
    {"open_pool", open_pool, METH_VARARGS, "open_pool(size, max_pending, name, setup) -> Pool"},
    {"dismiss", dismiss, METH_NOARGS, "End the workers once their pools are done."},
    {"wait_gone", wait_gone, METH_O, "wait_gone(timeout): until all workers ended; TimeoutError."},
    {"interrupt_all", interrupt_all, METH_NOARGS, "Raise TaskInterrupted in every running task."},
    {"stop", stop, METH_NOARGS, "No deliveries and no interruptions any more."},
    {"watch", watch, METH_O, "watch(task): deliver its end; False if it has ended."},
    {nullptr, nullptr, 0, nullptr},
};

PyMethodDef pool_methods[] = {
    {"submit", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(submit)), METH_FASTCALL,
     "submit(function, args, kwargs) -> Task"},
    {"map", map, METH_VARARGS, "map(function, list of argument tuples, chunk) -> Map"},
    {"close", close, METH_NOARGS, "No more tasks; workers leave when the queue is empty."},
    {"interrupt", interrupt, METH_NOARGS, "Raise TaskInterrupted in every running task."},
    {"cancel_waiting", cancel_waiting, METH_NOARGS, nullptr},
    {"break_waiting", break_waiting, METH_O, nullptr},
    {"wait_ready", wait_ready, METH_O, "wait_ready(timeout); TimeoutError."},
    {"wait_left", wait_left, METH_O, "wait_left(timeout); TimeoutError."},
    {"failure", failure, METH_NOARGS, "What broke the pool, as Task.failure(); None while it works."},
    {"stats", stats, METH_NOARGS, "[(state, interpreter, tasks, busy seconds, replacements), ...]"},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef pool_members[] = {
    {"id", get_id, nullptr, nullptr, nullptr},
    {"pending", get_pending, nullptr, "Tasks that no worker has taken yet.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyType_Slot crew_slots[] = {
    {Py_tp_doc, const_cast<char*>("The workers that this interpreter made.")},
    {Py_tp_new, reinterpret_cast<void*>(new_crew)},
    {Py_tp_dealloc, reinterpret_cast<void*>(dealloc_crew)},
    {Py_tp_methods, crew_methods},
    {0, nullptr},
};

PyType_Slot pool_slots[] = {
    {Py_tp_doc, const_cast<char*>("A queue of tasks and the workers that take them.")},
    {Py_tp_dealloc, reinterpret_cast<void*>(dealloc_pool)},
    {Py_tp_methods, pool_methods},
    {Py_tp_getset, pool_members},
    {0, nullptr},
};

PyType_Spec crew_spec = {
    .name = "syncyte._core.Crew",
    .basicsize = sizeof(CrewObject),
    .itemsize = 0,
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = crew_slots,
};

PyType_Spec pool_spec = {
    .name = "syncyte._core.Pool",
    .basicsize = sizeof(PoolObject),
    .itemsize = 0,
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = pool_slots,
};

PyMethodDef functions[] = {
    {"interpreter_address", interpreter_address, METH_NOARGS, "Where this interpreter's state is."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

int register_pool(PyObject* module, ModuleState& state) {
    state.pool_type = add_type(module, "Pool", pool_spec);
    if (state.pool_type == nullptr) return -1;
    PyObject* crew = add_type(module, "Crew", crew_spec);
    if (crew == nullptr) return -1;
    Py_DECREF(crew);
    return PyModule_AddFunctions(module, functions);
}

}  // namespace syncyte::python
