#include "python/queue.h"

#include <array>

#include "python/arguments.h"
#include "python/errors.h"
#include "python/handles.h"
#include "python/reference.h"
#include "python/transfer.h"
#include "python/wait.h"

namespace syncyte::python {

namespace {

QueueCore& core_of(PyObject* self) {
    return static_cast<QueueCore&>(*reinterpret_cast<HandleObject*>(self)->handle);
}

ModuleState& state_behind(PyObject* self) { return *state_of_type(Py_TYPE(self)); }

PyObject* make(PyTypeObject* type, PyObject* args, PyObject* keywords) {
    Ref<QueueCore> core = make_queue_core("|O$p:Queue", args, keywords);
    return core ? new_handle_object(type, std::move(core)) : nullptr;
}

PyObject* put_outcome(ModuleState& state, Transfer outcome) {
    switch (outcome) {
        case Transfer::kDone: Py_RETURN_NONE;
        case Transfer::kClosed: return raise_queue_shut_down(state);
        case Transfer::kTimedOut: return raise_queue_full(state);
        case Transfer::kRaised: break;
    }
    return nullptr;
}

PyObject* put_object(PyObject* self, PyObject* item, Deadline deadline) {
    ModuleState& state = state_behind(self);
    const QueueCore& core = core_of(self);
    std::optional<Value> value = to_value(state, item, core.pickling());
    if (!value) return nullptr;
    return put_outcome(state, put_value(core.values(), *value, deadline));
}

PyObject* get_failure(ModuleState& state, Transfer outcome) {
    if (outcome == Transfer::kClosed) return raise_queue_shut_down(state);
    return outcome == Transfer::kTimedOut ? raise_queue_empty(state) : nullptr;
}

PyObject* get_object(PyObject* self, Deadline deadline) {
    ModuleState& state = state_behind(self);
    Values& values = core_of(self).values();
    Value value;
    std::uint64_t place = 0;
    const Transfer outcome = get_value(values, value, place, deadline);
    return outcome == Transfer::kDone ? received(state, values, value, place) : get_failure(state, outcome);
}

PyObject* put(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
    if (count == 1 && keywords == nullptr) return put_object(self, args[0], Deadline::never());
    static constexpr std::array<const char*, 3> kNames{"item", "block", "timeout"};
    std::array<PyObject*, 3> slots;
    if (!sort_arguments("put", kNames, 1, args, count, keywords, slots)) return nullptr;
    const auto deadline = deadline_of(slots[1], slots[2]);
    return deadline ? put_object(self, slots[0], *deadline) : nullptr;
}

PyObject* put_nowait(PyObject* self, PyObject* item) { return put_object(self, item, Deadline::now()); }

PyObject* get(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
    if (count == 0 && keywords == nullptr) return get_object(self, Deadline::never());
    static constexpr std::array<const char*, 2> kNames{"block", "timeout"};
    std::array<PyObject*, 2> slots;
    if (!sort_arguments("get", kNames, 0, args, count, keywords, slots)) return nullptr;
    const auto deadline = deadline_of(slots[0], slots[1]);
    return deadline ? get_object(self, *deadline) : nullptr;
}

PyObject* get_nowait(PyObject* self, PyObject* /*unused*/) { return get_object(self, Deadline::now()); }

PyObject* put_many(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
    static constexpr std::array<const char*, 3> kNames{"items", "block", "timeout"};
    std::array<PyObject*, 3> slots;
    if (!sort_arguments("put_many", kNames, 1, args, count, keywords, slots)) return nullptr;
    const auto deadline = deadline_of(slots[1], slots[2]);
    if (!deadline) return nullptr;
    ModuleState& state = state_behind(self);
    const QueueCore& core = core_of(self);
    std::vector<Value> values;
    if (!to_values(state, slots[0], core.pickling(), values)) return nullptr;
    std::size_t done = 0;
    const Transfer outcome = put_values(core.values(), values, *deadline, done);
    PyObject* none = put_outcome(state, outcome);
    if (none != nullptr) return none;
    // Whatever ended it, a signal handler's exception included.
    PyObject* error = PyErr_GetRaisedException();
    const Reference number = Reference::adopt(PyLong_FromSize_t(done));
    if (!number || PyObject_SetAttrString(error, "count", number.get()) < 0) PyErr_Clear();
    PyErr_SetRaisedException(error);
    return nullptr;
}

PyObject* get_many(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
    static constexpr std::array<const char*, 3> kNames{"n", "block", "timeout"};
    std::array<PyObject*, 3> slots;
    if (!sort_arguments("get_many", kNames, 1, args, count, keywords, slots)) return nullptr;
    const Py_ssize_t most = PyNumber_AsSsize_t(slots[0], nullptr);
    if (most == -1 && PyErr_Occurred() != nullptr) return nullptr;
    if (most < 1) {
        PyErr_SetString(PyExc_ValueError, "'n' must be at least 1");
        return nullptr;
    }
    const auto deadline = deadline_of(slots[1], slots[2]);
    if (!deadline) return nullptr;
    ModuleState& state = state_behind(self);
    Values& channel = core_of(self).values();
    std::vector<Value> values;
    std::vector<std::uint64_t> places;
    const Transfer outcome = get_values(channel, values, places, static_cast<std::size_t>(most), *deadline);
    return outcome == Transfer::kDone ? received_list(state, channel, values, places)
                                      : get_failure(state, outcome);
}

PyObject* next(PyObject* self) {
    ModuleState& state = state_behind(self);
    Values& values = core_of(self).values();
    Value value;
    std::uint64_t place = 0;
    const Transfer outcome = get_value(values, value, place, Deadline::never());
    // Closed: the iteration ends.
    return outcome == Transfer::kDone ? received(state, values, value, place) : nullptr;
}

PyObject* qsize(PyObject* self, PyObject* /*unused*/) {
    return PyLong_FromSize_t(core_of(self).values().size());
}

PyObject* empty(PyObject* self, PyObject* /*unused*/) {
    return PyBool_FromLong(core_of(self).values().size() == 0);
}

PyObject* full(PyObject* self, PyObject* /*unused*/) {
    const Values& values = core_of(self).values();
    return PyBool_FromLong(values.capacity() != 0 && values.size() >= values.capacity());
}

PyObject* task_done(PyObject* self, PyObject* /*unused*/) {
    const auto done = core_of(self).values().task_done();
    if (!done) return raise_error(state_behind(self), done.error());
    Py_RETURN_NONE;
}

PyObject* join(PyObject* self, PyObject* /*unused*/) {
    Values& values = core_of(self).values();
    Waiter<Value> waiter;
    if (!values.begin_join(waiter) && wait_detached(*waiter.handoff, Deadline::never()) != Wake::kUnparked) {
        if (!values.cancel_join(waiter)) {
            while (!waiter.handoff->fired())
                Parker::of_this_thread().wait(*waiter.handoff, Deadline::never());
        }
        return nullptr;
    }
    Py_RETURN_NONE;
}

PyObject* shutdown(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
    static constexpr std::array<const char*, 1> kNames{"immediate"};
    std::array<PyObject*, 1> slots;
    if (!sort_arguments("shutdown", kNames, 0, args, count, keywords, slots)) return nullptr;
    const int immediate = slots[0] == nullptr ? 0 : PyObject_IsTrue(slots[0]);
    if (immediate < 0) return nullptr;
    core_of(self).values().close(immediate != 0 ? Close::kDiscard : Close::kDrain);
    Py_RETURN_NONE;
}

PyObject* aget(PyObject* self, PyObject* /*unused*/) { return call_aio(state_behind(self), "aget", self); }

PyObject* aput(PyObject* self, PyObject* item) { return call_aio(state_behind(self), "aput", self, item); }

PyObject* anext(PyObject* self) { return call_aio(state_behind(self), "next_item", self); }

PyObject* maxsize(PyObject* self, void* /*unused*/) { return PyLong_FromSsize_t(core_of(self).maxsize()); }

PyObject* id(PyObject* self, void* /*unused*/) { return PyLong_FromUnsignedLongLong(core_of(self).id()); }

PyObject* is_shutdown(PyObject* self, void* /*unused*/) {
    return PyBool_FromLong(core_of(self).values().closed());
}

PyObject* unfinished_tasks(PyObject* self, void* /*unused*/) {
    return PyLong_FromUnsignedLongLong(core_of(self).values().unfinished());
}

PyObject* repr(PyObject* self) {
    const QueueCore& core = core_of(self);
    return PyUnicode_FromFormat("<syncyte.Queue id=%llu maxsize=%zd qsize=%zu%s>",
                                static_cast<unsigned long long>(core.id()), core.maxsize(),
                                core.values().size(), core.values().closed() ? " shut down" : "");
}

template <class Function>
PyCFunction fast(Function function) {
    return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

constexpr int kFast = METH_FASTCALL | METH_KEYWORDS;

PyMethodDef methods[] = {
    {"put", fast(put), kFast,
     "put($self, /, item, block=True, timeout=None)\n--\n\n"
     "Puts a copy of item, or a reference to it if it travels by reference.\n\n"
     "While the queue is full, waits for room: at most timeout seconds, then raises QueueFull; not at all if "
     "block is\n"
     "false. Raises QueueShutDown after shutdown(), TypeError for what cannot travel."},
    {"put_nowait", put_nowait, METH_O, "put_nowait($self, item, /)\n--\n\nput(item, block=False)."},
    {"put_many", fast(put_many), kFast,
     "put_many($self, /, items, block=True, timeout=None)\n--\n\n"
     "Puts every one of items, in order, others' items possibly in between. All are converted before the "
     "first\n"
     "is put. What it raises later, QueueFull when the time is over, has a `count`: how many were put."},
    {"get", fast(get), kFast,
     "get($self, /, block=True, timeout=None)\n--\n\n"
     "Removes and returns the item that was put first.\n\n"
     "While the queue is empty, waits: at most timeout seconds, then raises QueueEmpty; not at all if block "
     "is false.\n"
     "Raises QueueShutDown once the queue is shut down and empty."},
    {"get_nowait", get_nowait, METH_NOARGS, "get_nowait($self, /)\n--\n\nget(block=False)."},
    {"get_many", fast(get_many), kFast,
     "get_many($self, /, n, block=True, timeout=None)\n--\n\n"
     "Removes and returns a list of at least one and at most n items, waiting for the first as get() does."},
    {"qsize", qsize, METH_NOARGS, "qsize($self, /)\n--\n\nHow many items are in the queue now."},
    {"empty", empty, METH_NOARGS, "empty($self, /)\n--\n\nWhether the queue is empty now."},
    {"full", full, METH_NOARGS, "full($self, /)\n--\n\nWhether the queue is full now."},
    {"task_done", task_done, METH_NOARGS,
     "task_done($self, /)\n--\n\n"
     "Says that an item got earlier has been dealt with. ValueError when called more often than items were "
     "put."},
    {"join", join, METH_NOARGS,
     "join($self, /)\n--\n\nWaits until task_done() was called for every item put."},
    {"shutdown", fast(shutdown), kFast,
     "shutdown($self, /, immediate=False)\n--\n\n"
     "Ends putting, here and in every interpreter; getting ends when the queue is empty. immediate drops "
     "what is in\n"
     "the queue. Whoever waits is woken."},
    {"aget", aget, METH_NOARGS,
     "aget($self, /)\n--\n\nget() for asyncio: await q.aget(). Cancelling it loses no item."},
    {"aput", aput, METH_O, "aput($self, item, /)\n--\n\nput() for asyncio: await q.aput(item)."},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, "Queue[int], for annotations."},
    {},
};

PyGetSetDef properties[] = {
    {"maxsize", maxsize, nullptr, "The bound given; none if zero or less.", nullptr},
    {"id", id, nullptr, "A number that names the queue in the whole process.", nullptr},
    {"is_shutdown", is_shutdown, nullptr, "Whether shutdown() was called.", nullptr},
    {"unfinished_tasks", unfinished_tasks, nullptr, "Items put for which task_done() was not yet called.",
     nullptr},
    {},
};

PyType_Slot slots[] = {
    {Py_tp_doc,
     const_cast<char*>(
         "Queue(maxsize=0, *, pickle=True)\n--\n\n"
         "A queue between any threads of any interpreters, with the habits of queue.Queue.\n\n"
         "Passing the queue itself to another interpreter passes a reference. maxsize bounds the\n"
         "number of items; zero and less: no bound. With pickle=False, put() raises TypeError for\n"
         "what could travel by pickle only. Iterating, also with `async for`, gets items until\n"
         "shutdown.")},
    {Py_tp_new, reinterpret_cast<void*>(make)},
    {Py_tp_repr, reinterpret_cast<void*>(repr)},
    {Py_tp_iter, reinterpret_cast<void*>(PyObject_SelfIter)},
    {Py_tp_iternext, reinterpret_cast<void*>(next)},
    {Py_am_aiter, reinterpret_cast<void*>(PyObject_SelfIter)},
    {Py_am_anext, reinterpret_cast<void*>(anext)},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {0, nullptr},
};

PyType_Spec spec = {
    .name = "syncyte._core.Queue",
    .basicsize = sizeof(HandleObject),
    .itemsize = 0,
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

}  // namespace

Ref<QueueCore> make_queue_core(const char* format, PyObject* args, PyObject* keywords) {
    static const char* const names[] = {"maxsize", "pickle", nullptr};
    PyObject* bound = nullptr;
    int pickle = 1;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, format, const_cast<char**>(names), &bound, &pickle)) {
        return nullptr;
    }
    // No memory holds more items than a Py_ssize_t counts: what is beyond is as good as that.
    const Py_ssize_t maxsize = bound == nullptr ? 0 : PyNumber_AsSsize_t(bound, nullptr);
    if (maxsize == -1 && PyErr_Occurred() != nullptr) return nullptr;
    return make_ref<QueueCore>(maxsize, pickle != 0 ? Pickling::kAllowed : Pickling::kForbidden);
}

QueueCore* queue_core_of(const ModuleState& state, PyObject* object) {
    Handle* handle = handle_of(state, object);
    if (handle == nullptr || handle->kind() != HandleKind::kQueue) return nullptr;
    return static_cast<QueueCore*>(handle);
}

PyObject* call_aio(ModuleState& state, const char* name, PyObject* object, PyObject* argument) {
    if (state.aio == nullptr) {
        PyObject* module = PyImport_ImportModule("syncyte._aio");
        if (module == nullptr) return nullptr;
        Py_XSETREF(state.aio, module);
    }
    const Reference function = Reference::adopt(PyObject_GetAttrString(state.aio, name));
    if (!function) return nullptr;
    return argument == nullptr ? PyObject_CallOneArg(function.get(), object)
                               : PyObject_CallFunctionObjArgs(function.get(), object, argument, nullptr);
}

int register_queue(PyObject* module, ModuleState& state) {
    return add_handle_type(module, state, spec, HandleKind::kQueue) == nullptr ? -1 : 0;
}

}  // namespace syncyte::python
