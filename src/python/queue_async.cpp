#include "python/queue_async.h"

#include <cstddef>
#include <optional>

#include "python/channel_ends.h"
#include "python/errors.h"
#include "python/leaving.h"
#include "python/queue.h"
#include "python/reference.h"
#include "python/transfer.h"

namespace syncyte::python {

namespace {

struct PortObject {
    PyObject_HEAD Port* port;  // owned
    std::uint64_t last_token;
};

enum class Side : std::uint8_t { kGet, kPut };

// A wait of one task. The waiter lies outside Python's memory: a channel may hold it until the wait ends.
struct Pending {
    Pending(Ref<Handle> source, Values& values, Side which, Ref<Port> port, std::uint64_t token)
        : kept(std::move(source)), channel(values), side(which), waiter(std::move(port), token) {}

    const Ref<Handle> kept;  // keeps `channel` alive, and the end of it open
    Values& channel;
    const Side side;
    Waiter<Value> waiter;

    // Ends the wait; what had been handed over already goes back to where it was.
    void cancel() {
        if (side == Side::kPut) {
            channel.cancel_put(waiter);
        } else if (!channel.cancel_get(waiter)) {
            channel.give_back(waiter);
        }
    }
};

struct WaitObject {
    PyObject_HEAD Pending* pending;  // owned; null once cancelled or its result was taken
    Leaver leaver;
    bool done;
};

PortObject* as_port(PyObject* self) { return reinterpret_cast<PortObject*>(self); }

WaitObject* as_wait(PyObject* self) { return reinterpret_cast<WaitObject*>(self); }

ModuleState& state_behind(PyObject* self) { return *state_of_type(Py_TYPE(self)); }

void end_wait(WaitObject* wait) {
    Pending* pending = std::exchange(wait->pending, nullptr);
    if (pending == nullptr) return;
    pending->cancel();
    delete pending;
}

void leave(Leaver* leaver) {
    end_wait(reinterpret_cast<WaitObject*>(reinterpret_cast<char*>(leaver) - offsetof(WaitObject, leaver)));
}

PyObject* make_port(PyTypeObject* type, PyObject* /*args*/, PyObject* /*keywords*/) {
    auto port = Port::open();
    if (!port) return raise_error(*state_of_type(type), port.error());
    PyObject* self = type->tp_alloc(type, 0);
    if (self != nullptr) as_port(self)->port = port->leak();
    return self;
}

void dealloc_port(PyObject* self) {
    PyTypeObject* type = Py_TYPE(self);
    if (as_port(self)->port != nullptr) as_port(self)->port->release();
    type->tp_free(self);
    Py_DECREF(type);
}

PyObject* fileno(PyObject* self, PyObject* /*unused*/) {
    return PyLong_FromLong(as_port(self)->port->descriptor());
}

PyObject* drain(PyObject* self, PyObject* /*unused*/) {
    const std::vector<std::uint64_t> tokens = as_port(self)->port->drain();
    Reference list = Reference::adopt(PyList_New(static_cast<Py_ssize_t>(tokens.size())));
    if (!list) return nullptr;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        PyObject* token = PyLong_FromUnsignedLongLong(tokens[i]);
        if (token == nullptr) return nullptr;
        PyList_SET_ITEM(list.get(), static_cast<Py_ssize_t>(i), token);
    }
    return list.leak();
}

// A wait of `side` at `source`, a queue or the matching end of a channel. With kPut, `item` is what to put.
PyObject* begin(PyObject* self, PyObject* source, Side side, PyObject* item) {
    ModuleState& state = state_behind(self);
    QueueCore* queue = queue_core_of(state, source);
    Ref<Handle> kept = Ref<Handle>::share(queue);
    if (queue == nullptr) {
        EndCore* end = end_core_of(state, source);
        if (end == nullptr)
            return PyErr_Format(PyExc_TypeError, "neither a queue nor a channel's end: %R", source);
        if (end->line() == nullptr) return raise_channel_closed(state, "this end of the channel was closed");
        kept = Ref<Handle>::share(end);
        queue = end->line();
    }
    std::optional<Value> value;
    if (side == Side::kPut) {
        value = to_value(state, item, queue->pickling());
        if (!value) return nullptr;
    }
    auto* type = reinterpret_cast<PyTypeObject*>(state.async_wait_type);
    PyObject* wait = type->tp_alloc(type, 0);
    if (wait == nullptr) return nullptr;
    auto* pending = new Pending(std::move(kept), queue->values(), side, Ref<Port>::share(as_port(self)->port),
                                ++as_port(self)->last_token);
    as_wait(wait)->pending = pending;
    if (side == Side::kPut) {
        pending->waiter.item = std::move(value);
        as_wait(wait)->done = pending->channel.begin_put(pending->waiter);
    } else {
        as_wait(wait)->done = pending->channel.begin_get(pending->waiter);
    }
    add_leaver(state, as_wait(wait)->leaver, leave);
    return wait;
}

PyObject* begin_get(PyObject* self, PyObject* source) { return begin(self, source, Side::kGet, nullptr); }

PyObject* begin_put(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    if (count != 2) return PyErr_Format(PyExc_TypeError, "begin_put() takes 2 arguments (%zd given)", count);
    return begin(self, args[0], Side::kPut, args[1]);
}

void dealloc_wait(PyObject* self) {
    PyTypeObject* type = Py_TYPE(self);
    remove_leaver(as_wait(self)->leaver);
    end_wait(as_wait(self));
    type->tp_free(self);
    Py_DECREF(type);
}

PyObject* raise_closed(ModuleState& state, const Pending& pending) {
    if (pending.kept->kind() == HandleKind::kQueue) return raise_queue_shut_down(state);
    return raise_channel_closed(state,
                                pending.side == Side::kGet ? "no sender is left" : "no receiver is left");
}

PyObject* result(PyObject* self, PyObject* /*unused*/) {
    ModuleState& state = state_behind(self);
    Pending* pending = as_wait(self)->pending;
    // After the port told of it, the waiter is ours; asking the channel makes a misuse harmless.
    if (pending == nullptr || (!as_wait(self)->done && pending->channel.waits(pending->waiter))) {
        PyErr_SetString(PyExc_RuntimeError, "this wait has no result");
        return nullptr;
    }
    remove_leaver(as_wait(self)->leaver);
    as_wait(self)->pending = nullptr;
    PyObject* outcome = nullptr;
    if (pending->waiter.outcome == Outcome::kClosed) {
        raise_closed(state, *pending);
    } else {
        Waiter<Value>& waiter = pending->waiter;
        outcome = pending->side == Side::kPut ? Py_NewRef(Py_None)
                                              : received(state, pending->channel, *waiter.item, waiter.order);
    }
    delete pending;
    return outcome;
}

PyObject* cancel(PyObject* self, PyObject* /*unused*/) {
    remove_leaver(as_wait(self)->leaver);
    end_wait(as_wait(self));
    Py_RETURN_NONE;
}

PyObject* done(PyObject* self, void* /*unused*/) { return PyBool_FromLong(as_wait(self)->done); }

PyObject* token(PyObject* self, void* /*unused*/) {
    const Pending* pending = as_wait(self)->pending;
    return PyLong_FromUnsignedLongLong(pending == nullptr ? 0 : pending->waiter.token);
}

PyMethodDef port_methods[] = {
    {"fileno", fileno, METH_NOARGS, "The descriptor that is readable while drain() has something."},
    {"drain", drain, METH_NOARGS, "The tokens of the waits finished since the last call."},
    {"begin_get", begin_get, METH_O, "Begins to get from a queue or receiver: an AsyncWait."},
    {"begin_put", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(begin_put)), METH_FASTCALL,
     "Begins to put an item into a queue or sender: an AsyncWait."},
    {},
};

PyMethodDef wait_methods[] = {
    {"result", result, METH_NOARGS,
     "What was got (None for a put), once; raises when the source was closed."},
    {"cancel", cancel, METH_NOARGS, "Ends the wait. What had been handed to it goes back to the front."},
    {},
};

PyGetSetDef wait_properties[] = {
    {"done", done, nullptr, "Whether the result was there at once; else the port tells the token.", nullptr},
    {"token", token, nullptr, "What the port will tell.", nullptr},
    {},
};

PyType_Slot port_slots[] = {
    {Py_tp_doc, const_cast<char*>("Where one event loop waits for all its queues.")},
    {Py_tp_new, reinterpret_cast<void*>(make_port)},
    {Py_tp_dealloc, reinterpret_cast<void*>(dealloc_port)},
    {Py_tp_methods, port_methods},
    {0, nullptr},
};

PyType_Slot wait_slots[] = {
    {Py_tp_doc, const_cast<char*>("One wait of one task.")},
    {Py_tp_dealloc, reinterpret_cast<void*>(dealloc_wait)},
    {Py_tp_methods, wait_methods},
    {Py_tp_getset, wait_properties},
    {0, nullptr},
};

PyType_Spec port_spec = {"syncyte._core.Port", sizeof(PortObject), 0,
                         Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, port_slots};
PyType_Spec wait_spec = {"syncyte._core.AsyncWait", sizeof(WaitObject), 0,
                         Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                         wait_slots};

}  // namespace

Ref<Port> port_of(const ModuleState& state, PyObject* object) {
    if (Py_IS_TYPE(object, reinterpret_cast<PyTypeObject*>(state.port_type))) {
        return Ref<Port>::share(as_port(object)->port);
    }
    PyErr_Format(PyExc_TypeError, "a Port is expected, not %T", object);
    return {};
}

PortToken new_port_token(const ModuleState& state, PyObject* object) {
    Ref<Port> port = port_of(state, object);
    if (!port) return {};
    return {.port = std::move(port), .token = ++as_port(object)->last_token};
}

int register_queue_async(PyObject* module, ModuleState& state) {
    state.port_type = PyType_FromModuleAndSpec(module, &port_spec, nullptr);
    state.async_wait_type = PyType_FromModuleAndSpec(module, &wait_spec, nullptr);
    if (state.port_type == nullptr || state.async_wait_type == nullptr) return -1;
    return PyModule_AddObjectRef(module, "Port", state.port_type) < 0 ||
                   PyModule_AddObjectRef(module, "AsyncWait", state.async_wait_type) < 0
               ? -1
               : 0;
}

}  // namespace syncyte::python
