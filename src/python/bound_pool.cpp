#include "python/bound_pool.h"

#include <optional>
#include <string>
#include <utility>

#include "python/attach.h"
#include "python/bound_map.h"
#include "python/bound_reference.h"
#include "python/bound_task.h"
#include "python/convert.h"
#include "python/crew.h"
#include "python/errors.h"
#include "python/memory_meter.h"
#include "python/pool.h"
#include "python/wait.h"
#include "python/worker.h"

namespace syncyte::python {

namespace {

struct CrewObject {
    PyObject_HEAD Ref<Crew> crew;
};

enum class Owner : bool { kNo, kYes };

struct PoolObject {
    PyObject_HEAD Ref<Pool> pool;
    Ref<Crew> crew;
    Ref<Handle> reference;  // as which it travels; null before it does
    Owner owner;            // the pool ends with the object that opened it
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

PyObject* new_pool(const ModuleState& state, Ref<Pool> pool, Ref<Crew> crew, Ref<Handle> reference,
                   Owner owner) {
    auto* type = reinterpret_cast<PyTypeObject*>(state.pool_type);
    PyObject* self = type->tp_alloc(type, 0);
    if (self == nullptr) return nullptr;
    new (&cast(self)->pool) Ref<Pool>(std::move(pool));
    new (&cast(self)->crew) Ref<Crew>(std::move(crew));
    new (&cast(self)->reference) Ref<Handle>(std::move(reference));
    cast(self)->owner = owner;
    return self;
}

// open_pool(size, max_pending, recycle_after, memory_limit, name, setup) -> Pool
PyObject* open_pool(PyObject* self, PyObject* args) {
    ModuleState& state = state_here(self);
    int size = 0;
    Py_ssize_t max_pending = 0;
    long long recycle_after = 0;
    long long memory_limit = 0;
    const char* name = nullptr;
    PyObject* setup = nullptr;
    if (!PyArg_ParseTuple(args, "inLLsO:open_pool", &size, &max_pending, &recycle_after, &memory_limit, &name,
                          &setup)) {
        return nullptr;
    }
    std::optional<Value> value = to_value(state, setup);
    if (!value) return nullptr;
    const Ref<Crew>& crew = reinterpret_cast<CrewObject*>(self)->crew;
    if (!crew->open()) {
        return raise_error(state, Error(ErrorCode::kClosed, "cannot open a pool after interpreter shutdown"));
    }
    if (!install_memory_meters() && memory_limit != 0) {
        PyErr_SetString(
            PyExc_RuntimeError,
            "memory_limit needs CPython's own allocator: without PYTHONMALLOC, -X dev and tracemalloc");
        return nullptr;
    }
    crew->notifier()->start();
    auto pool = make_ref<Pool>(PoolOptions{.max_pending = static_cast<std::size_t>(max_pending),
                                           .recycle_after = static_cast<std::uint64_t>(recycle_after),
                                           .memory_limit = memory_limit,
                                           .name = name,
                                           .setup = std::move(*value)},
                               crew->notifier(), crew->supervisor());
    PyObject* object = new_pool(state, pool, crew, nullptr, Owner::kYes);
    if (object != nullptr) crew->staff(pool, pool->resize(size));
    return object;
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
    crew_of(self).notifier()->start();
    return PyBool_FromLong((*task)->watch(crew_of(self).notifier()));
}

void dealloc_pool(PyObject* self) {
    PyTypeObject* type = Py_TYPE(self);
    if (cast(self)->pool->foreign()) {
        (void)cast(self)->pool.leak();
        (void)cast(self)->crew.leak();
    } else if (cast(self)->owner == Owner::kYes) {
        cast(self)->pool->close();
    }
    cast(self)->pool.~Ref();
    cast(self)->crew.~Ref();
    cast(self)->reference.~Ref();
    type->tp_free(self);
    Py_DECREF(type);
}

// A number of seconds, or 0 for None. False with a Python error set.
bool parse_seconds(PyObject* object, double& seconds) {
    seconds = object == Py_None ? 0 : PyFloat_AsDouble(object);
    return seconds != -1.0 || PyErr_Occurred() == nullptr;
}

// As time.monotonic() gives it; None: never.
bool parse_deadline(PyObject* object, Deadline& deadline) {
    double seconds = 0;
    if (object == Py_None) return true;
    if (!parse_seconds(object, seconds)) return false;
    deadline = Deadline::at(seconds);
    return true;
}

// Who submits in the midst of a task must not wait for room: it may be the one who makes it.
JobQueue::Room room_here() {
    return Worker::of_this_thread() == nullptr ? JobQueue::Room::kNeeded : JobQueue::Room::kIgnored;
}

// After a job was put, or could not be: when a task did that, it may wait for what no worker is free to do.
void look_after(const PoolObject& object) {
    if (Worker::of_this_thread() == nullptr && PyInterpreterState_Get() == object.crew->home()) return;
    if (object.pool->backed_up() && object.pool->watch()) object.pool->supervisor()->watch(object.pool);
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
    Deadline until = Deadline::never();
    int priority = 0;
    int place = -1;
    if (count == 7) {
        if (!parse_seconds(args[3], timeout) || !parse_deadline(args[4], until)) return nullptr;
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
    auto task = make_ref<Task>(*function, std::move(*positional), std::move(*named), timeout, place);
    Pool& pool = pool_of(self);
    const JobQueue::Room room = room_here();
    const auto send = [&](Deadline patience) {
        Ref<Job> job = task;
        return place >= 0 ? pool.submit_to(place, std::move(job))
                          : pool.submit(std::move(job), priority, patience, room);
    };
    Result<void> sent = send(Deadline::now());
    look_after(*cast(self));
    if (!sent && sent.error().code == ErrorCode::kTimedOut) sent = call_detached(Deadline::never(), send);
    if (!sent) return none_or_error(self, sent);
    if (!until.is_never()) pool.supervisor()->limit(task, cast(self)->pool, until.time());
    if (Worker* here = Worker::of_this_thread()) here->submitted(task, cast(self)->pool);
    return wrap_task(state, std::move(task), cast(self)->pool);
}

// map(function, [args, ...], chunk, most runners) -> Map
PyObject* map(PyObject* self, PyObject* args) {
    PyObject* function = nullptr;
    PyObject* items = nullptr;
    Py_ssize_t chunk = 0;
    Py_ssize_t most = 0;
    if (!PyArg_ParseTuple(args, "OO!nn:map", &function, &PyList_Type, &items, &chunk, &most)) return nullptr;
    PyObject* started =
        start_map(state_here(self), cast(self)->pool, function, items, static_cast<std::size_t>(chunk),
                  static_cast<std::size_t>(most), room_here());
    look_after(*cast(self));
    return started;
}

// resize(size): more workers start at once; those beyond leave when their tasks are over.
PyObject* resize(PyObject* self, PyObject* argument) {
    const int size = PyLong_AsInt(argument);
    if (size == -1 && PyErr_Occurred() != nullptr) return nullptr;
    const Ref<Pool>& pool = cast(self)->pool;
    cast(self)->crew->staff(pool, pool->resize(size));
    Py_RETURN_NONE;
}

// in_task(): whether the calling thread is in the midst of a task of this pool.
PyObject* in_task(PyObject* self, PyObject*) {
    const Worker* worker = Worker::of_this_thread();
    return PyBool_FromLong(worker != nullptr && worker->can_help(pool_of(self)));
}

// travelling(): what stands for the pool in a message.
PyObject* travelling_pool(PyObject* self, PyObject*) {
    PoolObject* object = cast(self);
    if (!object->reference) object->reference = make_ref<PoolReference>(object->pool, object->crew);
    return travelling(state_here(self), object->reference);
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

// (place, state, interpreter id, tasks, busy seconds, replacements, recycles, bytes or -1)
PyObject* describe_worker(const WorkerRecord& record, int place, std::int64_t now) {
    const std::int64_t since = record.busy_since_ns.load(std::memory_order_relaxed);
    const std::int64_t busy = record.busy_ns.load(std::memory_order_relaxed) + (since != 0 ? now - since : 0);
    const MemoryMeter* meter = record.meter.load(std::memory_order_acquire);
    const std::int64_t bytes = meter == nullptr ? -1 : meter->bytes.load(std::memory_order_relaxed);
    return Py_BuildValue("(iiLKdKKL)", place, static_cast<int>(record.state.load(std::memory_order_relaxed)),
                         static_cast<long long>(record.interpreter.load(std::memory_order_relaxed)),
                         static_cast<unsigned long long>(record.tasks.load(std::memory_order_relaxed)),
                         static_cast<double>(busy) * 1e-9,
                         static_cast<unsigned long long>(record.replacements.load(std::memory_order_relaxed)),
                         static_cast<unsigned long long>(record.recycles.load(std::memory_order_relaxed)),
                         static_cast<long long>(bytes));
}

// stats() -> [describe_worker(), ...], of the pool's places and of workers who have not left yet.
PyObject* stats(PyObject* self, PyObject*) {
    Pool& pool = pool_of(self);
    PyObject* list = PyList_New(0);
    const std::int64_t now = Clock::now().time_since_epoch().count();
    const int places = static_cast<int>(pool.places());
    for (int place = 0; list != nullptr && place < places; ++place) {
        const WorkerRecord& record = pool.record(place);
        if (place >= pool.size() && record.state.load() == WorkerState::kGone) continue;
        PyObject* entry = describe_worker(record, place, now);
        if (entry == nullptr || PyList_Append(list, entry) < 0) Py_CLEAR(list);
        Py_XDECREF(entry);
    }
    return list;
}

PyObject* get_id(PyObject* self, void*) { return PyLong_FromUnsignedLongLong(pool_of(self).id()); }
PyObject* get_foreign(PyObject* self, void*) { return PyBool_FromLong(pool_of(self).foreign()); }
PyObject* get_max_pending(PyObject* self, void*) {
    return PyLong_FromSize_t(pool_of(self).options().max_pending);
}
PyObject* get_size(PyObject* self, void*) { return PyLong_FromLong(pool_of(self).size()); }
PyObject* get_pending(PyObject* self, void*) { return PyLong_FromSize_t(pool_of(self).pending()); }

// _live_here(worker): a worker's life in the interpreter it has just made; for syncyte._pool._live alone.
PyObject* live_here(PyObject*, PyObject* address) {
    auto* worker = reinterpret_cast<Worker*>(PyLong_AsVoidPtr(address));
    if (worker == nullptr) {
        if (PyErr_Occurred() == nullptr) PyErr_SetString(PyExc_ValueError, "no worker");
        return nullptr;
    }
    if (!worker->live_here()) return nullptr;
    Py_RETURN_NONE;
}

PyObject* count_pools_at_work(PyObject*, PyObject*) { return PyLong_FromLong(pools_at_work().load()); }

// _raise_in_thread(ident, type): in a thread of this interpreter, at its next bytecode.
PyObject* raise_in_thread(PyObject*, PyObject* args) {
    unsigned long ident = 0;
    PyObject* type = nullptr;
    if (!PyArg_ParseTuple(args, "kO:_raise_in_thread", &ident, &type)) return nullptr;
    return PyBool_FromLong(PyThreadState_SetAsyncExc(ident, type));
}

PyObject* add_type(PyObject* module, const char* name, PyType_Spec& spec) {
    PyObject* type = PyType_FromModuleAndSpec(module, &spec, nullptr);
    if (type != nullptr && PyModule_AddObjectRef(module, name, type) < 0) Py_CLEAR(type);
    return type;
}

PyMethodDef crew_methods[] = {
    {"open_pool", open_pool, METH_VARARGS,
     "open_pool(size, max_pending, recycle_after, memory_limit, name, setup) -> Pool"},
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
    {"map", map, METH_VARARGS, "map(function, list of argument tuples, chunk, most runners) -> Map"},
    {"resize", resize, METH_O, "resize(size): how many workers it has from now on."},
    {"in_task", in_task, METH_NOARGS, "Whether the calling thread is in the midst of a task of this pool."},
    {"travelling", travelling_pool, METH_NOARGS, "What stands for the pool in a message."},
    {"close", close, METH_NOARGS, "No more tasks; workers leave when the queue is empty."},
    {"interrupt", interrupt, METH_NOARGS, "Raise TaskInterrupted in every running task."},
    {"cancel_waiting", cancel_waiting, METH_NOARGS, nullptr},
    {"break_waiting", break_waiting, METH_O, nullptr},
    {"wait_ready", wait_ready, METH_O, "wait_ready(timeout); TimeoutError."},
    {"wait_left", wait_left, METH_O, "wait_left(timeout); TimeoutError."},
    {"failure", failure, METH_NOARGS, "What broke the pool, as Task.failure(); None while it works."},
    {"stats", stats, METH_NOARGS,
     "[(place, state, interpreter, tasks, busy seconds, replacements, recycles, bytes), ...]"},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef pool_members[] = {
    {"id", get_id, nullptr, nullptr, nullptr},
    {"foreign", get_foreign, nullptr, "Whether it belongs to the process this one was forked from.", nullptr},
    {"max_pending", get_max_pending, nullptr, "Most tasks that may wait; 0: any number.", nullptr},
    {"size", get_size, nullptr, "How many workers it has, those to come included.", nullptr},
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
    {"_live_here", live_here, METH_O, "_live_here(worker): its life in this interpreter."},
    {"_pools_at_work", count_pools_at_work, METH_NOARGS, "Pools of this process that have workers now."},
    {"_raise_in_thread", raise_in_thread, METH_VARARGS,
     "_raise_in_thread(ident, type): at its next bytecode."},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

bool refuse_foreign() {
    PyErr_SetString(
        PyExc_RuntimeError,
        "this pool belongs to the process that forked this one: its workers are threads, and a fork "
        "has none of them; open a pool of its own here, or start processes by 'spawn' or "
        "'forkserver'");
    return false;
}

PyObject* wrap_pool(ModuleState& state, Ref<Pool> pool, Ref<Crew> crew, Ref<Handle> reference) {
    return new_pool(state, std::move(pool), std::move(crew), std::move(reference), Owner::kNo);
}

int register_pool(PyObject* module, ModuleState& state) {
    state.pool_type = add_type(module, "Pool", pool_spec);
    if (state.pool_type == nullptr) return -1;
    PyObject* crew = add_type(module, "Crew", crew_spec);
    if (crew == nullptr) return -1;
    Py_DECREF(crew);
    return PyModule_AddFunctions(module, functions);
}

}  // namespace syncyte::python
