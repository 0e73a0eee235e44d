#include "python/channel_ends.h"

#include <array>
#include <cstddef>

#include "python/arguments.h"
#include "python/handles.h"
#include "python/leaving.h"
#include "python/queue.h"
#include "python/reference.h"
#include "python/transfer.h"

namespace syncyte::python {

namespace {

struct EndObject {
    HandleObject head;
    QueueCore* line;  // owned; tells ends of different channels apart even when closed
    Leaver leaver;
};

EndObject* as_end(PyObject* self) { return reinterpret_cast<EndObject*>(self); }

ModuleState& state_behind(PyObject* self) { return *state_of_type(Py_TYPE(self)); }

EndCore& core_of(PyObject* self) { return static_cast<EndCore&>(*as_end(self)->head.handle); }

// Lets go of the channel. What may run in a destructor then finds the object closed already.
void close_end(EndObject* end) {
    Handle* before = end->head.handle;
    end->head.handle = make_ref<EndCore>(before->kind(), nullptr).leak();
    before->release();
}

void leave(Leaver* leaver) {
    close_end(reinterpret_cast<EndObject*>(reinterpret_cast<char*>(leaver) - offsetof(EndObject, leaver)));
}

PyObject* wrap_end(ModuleState& state, Ref<Handle> handle) {
    QueueCore* line = static_cast<EndCore&>(*handle).line();
    PyTypeObject* type = state.handle_types[static_cast<std::size_t>(handle->kind())];
    PyObject* self = new_handle_object(type, std::move(handle));
    if (self == nullptr || line == nullptr) return self;
    line->retain();
    as_end(self)->line = line;
    add_leaver(state, as_end(self)->leaver, leave);
    return self;
}

void dealloc(PyObject* self) {
    ModuleState& state = state_behind(self);
    remove_leaver(as_end(self)->leaver);
    const Ref<QueueCore> line = Ref<QueueCore>::adopt(as_end(self)->line);
    const auto base = reinterpret_cast<destructor>(
        PyType_GetSlot(reinterpret_cast<PyTypeObject*>(state.handle_type), Py_tp_dealloc));
    base(self);
}

PyObject* close(PyObject* self, PyObject* /*unused*/) {
    remove_leaver(as_end(self)->leaver);
    if (core_of(self).line() != nullptr) close_end(as_end(self));
    Py_RETURN_NONE;
}

PyObject* leave_block(PyObject* self, PyObject* const* /*args*/, Py_ssize_t /*count*/) {
    return close(self, nullptr);
}

PyObject* enter_block(PyObject* self, PyObject* /*unused*/) { return Py_NewRef(self); }

PyObject* closed(PyObject* self, void* /*unused*/) {
    return PyBool_FromLong(core_of(self).line() == nullptr);
}

PyObject* compare(PyObject* self, PyObject* other, int operation) {
    if (Py_TYPE(other) != Py_TYPE(self) || (operation != Py_EQ && operation != Py_NE))
        Py_RETURN_NOTIMPLEMENTED;
    const QueueCore* line = as_end(self)->line;
    const bool equal = self == other || (line != nullptr && line == as_end(other)->line);
    return PyBool_FromLong(equal == (operation == Py_EQ));
}

Py_hash_t hash(PyObject* self) {
    const QueueCore* line = as_end(self)->line;
    return Py_HashPointer(line == nullptr ? static_cast<const void*>(self) : line);
}

PyObject* repr(PyObject* self) {
    const EndCore& core = core_of(self);
    const char* name = core.kind() == HandleKind::kSender ? "Sender" : "Receiver";
    if (core.line() == nullptr) return PyUnicode_FromFormat("<syncyte.%s closed>", name);
    return PyUnicode_FromFormat("<syncyte.%s channel=%llu waiting=%zu>", name,
                                static_cast<unsigned long long>(core.line()->id()),
                                core.line()->values().size());
}

// The core, kept for the length of a call; null with ChannelClosed set when this end was closed.
Ref<EndCore> open_core(PyObject* self, ModuleState& state) {
    EndCore& core = core_of(self);
    if (core.line() != nullptr) return Ref<EndCore>::share(&core);
    raise_channel_closed(state, "this end of the channel was closed");
    return nullptr;
}

enum class Late : std::uint8_t { kTimeoutError, kQueueError };

PyObject* send_object(PyObject* self, PyObject* item, Deadline deadline, Late late) {
    ModuleState& state = state_behind(self);
    const Ref<EndCore> core = open_core(self, state);
    if (!core) return nullptr;
    std::optional<Value> value = to_value(state, item, core->line()->pickling());
    if (!value) return nullptr;
    switch (put_value(core->line()->values(), *value, deadline)) {
        case Transfer::kDone: Py_RETURN_NONE;
        case Transfer::kClosed: return raise_channel_closed(state, "no receiver is left");
        case Transfer::kTimedOut:
            if (late == Late::kQueueError) return raise_queue_full(state);
            PyErr_SetString(PyExc_TimeoutError, "the channel stayed full");
            return nullptr;
        case Transfer::kRaised: break;
    }
    return nullptr;
}

// `object` is what was received; on failure nothing, with a Python error set where that is kRaised.
Transfer receive(PyObject* self, ModuleState& state, Deadline deadline, PyObject*& object) {
    const Ref<EndCore> core = open_core(self, state);
    if (!core) return Transfer::kRaised;
    Values& values = core->line()->values();
    Value value;
    std::uint64_t place = 0;
    const Transfer outcome = get_value(values, value, place, deadline);
    if (outcome != Transfer::kDone) return outcome;
    object = received(state, values, value, place);
    return object == nullptr ? Transfer::kRaised : Transfer::kDone;
}

PyObject* receive_object(PyObject* self, Deadline deadline, Late late) {
    ModuleState& state = state_behind(self);
    PyObject* object = nullptr;
    switch (receive(self, state, deadline, object)) {
        case Transfer::kDone: return object;
        case Transfer::kClosed: return raise_channel_closed(state, "no sender is left");
        case Transfer::kTimedOut:
            if (late == Late::kQueueError) return raise_queue_empty(state);
            PyErr_SetString(PyExc_TimeoutError, "nothing was sent in time");
            return nullptr;
        case Transfer::kRaised: break;
    }
    return nullptr;
}

PyObject* send(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
    static constexpr std::array<const char*, 2> kNames{"item", "timeout"};
    std::array<PyObject*, 2> slots;
    if (!sort_arguments("send", kNames, 1, args, count, keywords, slots)) return nullptr;
    const auto deadline = deadline_of(nullptr, slots[1]);
    return deadline ? send_object(self, slots[0], *deadline, Late::kTimeoutError) : nullptr;
}

PyObject* send_nowait(PyObject* self, PyObject* item) {
    return send_object(self, item, Deadline::now(), Late::kQueueError);
}

PyObject* recv(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
    static constexpr std::array<const char*, 1> kNames{"timeout"};
    std::array<PyObject*, 1> slots;
    if (!sort_arguments("recv", kNames, 0, args, count, keywords, slots)) return nullptr;
    const auto deadline = deadline_of(nullptr, slots[0]);
    return deadline ? receive_object(self, *deadline, Late::kTimeoutError) : nullptr;
}

PyObject* recv_nowait(PyObject* self, PyObject* /*unused*/) {
    return receive_object(self, Deadline::now(), Late::kQueueError);
}

PyObject* next(PyObject* self) {
    ModuleState& state = state_behind(self);
    PyObject* object = nullptr;
    receive(self, state, Deadline::never(), object);  // without senders: the iteration ends
    return object;
}

PyObject* arecv(PyObject* self, PyObject* /*unused*/) { return call_aio(state_behind(self), "aget", self); }

PyObject* asend(PyObject* self, PyObject* item) { return call_aio(state_behind(self), "aput", self, item); }

PyObject* anext(PyObject* self) { return call_aio(state_behind(self), "next_item", self); }

PyObject* create_channel(PyObject* module, PyObject* args, PyObject* keywords) {
    ModuleState& state = state_of(module);
    const Ref<QueueCore> line = make_queue_core("|O$p:create_channel", args, keywords);
    if (!line) return nullptr;
    const Reference receiver =
        Reference::adopt(wrap_handle(state, make_ref<EndCore>(HandleKind::kReceiver, line)));
    const Reference sender =
        Reference::adopt(wrap_handle(state, make_ref<EndCore>(HandleKind::kSender, line)));
    return receiver && sender ? PyTuple_Pack(2, receiver.get(), sender.get()) : nullptr;
}

template <class Function>
PyCFunction fast(Function function) {
    return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

#define SYNCYTE_END_METHODS                                                                             \
    {"close", close, METH_NOARGS,                                                                       \
     "close($self, /)\n--\n\nLets go of the channel, as when this object is deleted. Again: nothing."}, \
        {"__enter__", enter_block, METH_NOARGS, nullptr},                                               \
        {"__exit__", fast(leave_block), METH_FASTCALL, nullptr},                                        \
        {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, "For annotations."}

PyMethodDef sender_methods[] = {
    {"send", fast(send), METH_FASTCALL | METH_KEYWORDS,
     "send($self, /, item, timeout=None)\n--\n\n"
     "Sends a copy of item, or a reference if it travels by reference. While a bounded channel is full, "
     "waits: at most\n"
     "timeout seconds, then raises TimeoutError. Raises ChannelClosed when no receiver is left."},
    {"send_nowait", send_nowait, METH_O,
     "send_nowait($self, item, /)\n--\n\nsend() that raises QueueFull instead of waiting."},
    {"asend", asend, METH_O, "asend($self, item, /)\n--\n\nsend() for asyncio: await s.asend(item)."},
    SYNCYTE_END_METHODS,
    {},
};

PyMethodDef receiver_methods[] = {
    {"recv", fast(recv), METH_FASTCALL | METH_KEYWORDS,
     "recv($self, /, timeout=None)\n--\n\n"
     "Removes and returns the item sent first. Waits for one: at most timeout seconds, then raises "
     "TimeoutError.\n"
     "Raises ChannelClosed once everything was received and no sender is left in any interpreter."},
    {"recv_nowait", recv_nowait, METH_NOARGS,
     "recv_nowait($self, /)\n--\n\nrecv() that raises QueueEmpty instead of waiting."},
    {"arecv", arecv, METH_NOARGS,
     "arecv($self, /)\n--\n\nrecv() for asyncio: await r.arecv(). Cancelling it loses no item."},
    SYNCYTE_END_METHODS,
    {},
};

PyGetSetDef properties[] = {
    {"closed", closed, nullptr, "Whether close() was called on this object.", nullptr},
    {},
};

PyType_Slot sender_slots[] = {
    {Py_tp_doc,
     const_cast<char*>("The sending end of a channel; see create_channel().\n\n"
                       "Passing it to another interpreter gives that one a sender, too. Deleting or\n"
                       "closing the last one closes the channel.")},
    {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
    {Py_tp_repr, reinterpret_cast<void*>(repr)},
    {Py_tp_hash, reinterpret_cast<void*>(hash)},
    {Py_tp_richcompare, reinterpret_cast<void*>(compare)},
    {Py_tp_methods, sender_methods},
    {Py_tp_getset, properties},
    {0, nullptr},
};

PyType_Slot receiver_slots[] = {
    {Py_tp_doc,
     const_cast<char*>("The receiving end of a channel; see create_channel().\n\n"
                       "Several receivers, in whichever interpreters, share what is sent. Iterating,\n"
                       "also with `async for`, receives until the last sender is gone.")},
    {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
    {Py_tp_repr, reinterpret_cast<void*>(repr)},
    {Py_tp_hash, reinterpret_cast<void*>(hash)},
    {Py_tp_richcompare, reinterpret_cast<void*>(compare)},
    {Py_tp_iter, reinterpret_cast<void*>(PyObject_SelfIter)},
    {Py_tp_iternext, reinterpret_cast<void*>(next)},
    {Py_am_aiter, reinterpret_cast<void*>(PyObject_SelfIter)},
    {Py_am_anext, reinterpret_cast<void*>(anext)},
    {Py_tp_methods, receiver_methods},
    {Py_tp_getset, properties},
    {0, nullptr},
};

constexpr unsigned int kFlags =
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION;

PyType_Spec sender_spec = {"syncyte._core.Sender", sizeof(EndObject), 0, kFlags, sender_slots};
PyType_Spec receiver_spec = {"syncyte._core.Receiver", sizeof(EndObject), 0, kFlags, receiver_slots};

PyMethodDef functions[] = {
    {"create_channel", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(create_channel)),
     METH_VARARGS | METH_KEYWORDS,
     "create_channel(maxsize=0, *, pickle=True)\n--\n\n"
     "Makes a channel: a (Receiver, Sender) pair. Each end may be passed on to any interpreters.\n\n"
     "maxsize bounds the number of items under way; zero and less: no bound. With pickle=False, send() "
     "raises\n"
     "TypeError for what could travel by pickle only."},
    {},
};

}  // namespace

EndCore* end_core_of(const ModuleState& state, PyObject* object) {
    Handle* handle = handle_of(state, object);
    if (handle == nullptr) return nullptr;
    const HandleKind kind = handle->kind();
    return kind == HandleKind::kSender || kind == HandleKind::kReceiver ? static_cast<EndCore*>(handle)
                                                                        : nullptr;
}

int register_channel_ends(PyObject* module, ModuleState& state) {
    const Reference bases = Reference::adopt(PyTuple_Pack(2, state.closed_error, PyExc_EOFError));
    if (!bases) return -1;
    state.channel_closed = PyErr_NewExceptionWithDoc(
        "syncyte.ChannelClosed", "The other side of the channel is gone, or this end was closed.",
        bases.get(), nullptr);
    if (state.channel_closed == nullptr ||
        PyModule_AddObjectRef(module, "ChannelClosed", state.channel_closed) < 0 ||
        PyModule_AddFunctions(module, functions) < 0 ||
        add_handle_type(module, state, sender_spec, HandleKind::kSender) == nullptr ||
        add_handle_type(module, state, receiver_spec, HandleKind::kReceiver) == nullptr) {
        return -1;
    }
    set_wrap(state, HandleKind::kSender, wrap_end);
    set_wrap(state, HandleKind::kReceiver, wrap_end);
    return 0;
}

}  // namespace syncyte::python
