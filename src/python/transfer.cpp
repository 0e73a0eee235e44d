#include "python/transfer.h"

#include <utility>

#include "python/reference.h"
#include "python/wait.h"

namespace syncyte::python {

namespace {

// Waits for the waker that has already taken the waiter out of its line: a moment.
void await_handoff(const Waiter<Value>& waiter) {
    while (!waiter.handoff->fired()) Parker::of_this_thread().wait(*waiter.handoff, Deadline::never());
}

PyObject* lazy_type(PyObject*& member, const char* module_name, const char* name) {
    if (member != nullptr) return member;
    const Reference module = Reference::adopt(PyImport_ImportModule(module_name));
    if (!module) return nullptr;
    PyObject* type = PyObject_GetAttrString(module.get(), name);
    // The import may have let another thread come first.
    if (type != nullptr) Py_XSETREF(member, type);
    return type;
}

// Whether the exception that is set tells of the receiver, and not of the value.
bool may_succeed_later(const Value& value) {
    const auto* attachments = value.attachments();
    if (attachments != nullptr && attachments->pickled_count > 0) return false;
    return PyErr_ExceptionMatches(PyExc_MemoryError) != 0 ||
           PyErr_ExceptionMatches(PyExc_RecursionError) != 0;
}

PyObject* raise_type(PyObject* type) {
    if (type != nullptr) PyErr_SetNone(type);
    return nullptr;
}

}  // namespace

Transfer put_value(Values& values, Value& value, Deadline deadline) {
    if (deadline.is_now()) {
        const auto put = values.try_put(std::move(value));
        if (put) return Transfer::kDone;
        return put.error().code == ErrorCode::kClosed ? Transfer::kClosed : Transfer::kTimedOut;
    }
    Waiter<Value> waiter(std::move(value));
    if (!values.begin_put(waiter)) {
        const Wake wake = wait_detached(*waiter.handoff, deadline);
        if (wake != Wake::kUnparked) {
            if (values.cancel_put(waiter)) {
                value = std::move(*waiter.item);
                return wake == Wake::kTimedOut ? Transfer::kTimedOut : Transfer::kRaised;
            }
            await_handoff(waiter);
            if (wake == Wake::kInterrupted) return Transfer::kRaised;
        }
    }
    if (waiter.outcome == Outcome::kDone) return Transfer::kDone;
    value = std::move(*waiter.item);
    return Transfer::kClosed;
}

Transfer get_value(Values& values, Value& value, std::uint64_t& place, Deadline deadline) {
    if (deadline.is_now()) {
        auto got = values.try_get(&place);
        if (!got) return got.error().code == ErrorCode::kClosed ? Transfer::kClosed : Transfer::kTimedOut;
        value = std::move(*got);
        return Transfer::kDone;
    }
    // Attached, since detaching and attaching would take longer than the wait.
    values.await_briefly();
    Waiter<Value> waiter;
    if (!values.begin_get(waiter)) {
        const Wake wake = wait_detached(*waiter.handoff, deadline);
        if (wake != Wake::kUnparked) {
            if (values.cancel_get(waiter)) {
                return wake == Wake::kTimedOut ? Transfer::kTimedOut : Transfer::kRaised;
            }
            await_handoff(waiter);
            if (wake == Wake::kInterrupted) {
                values.give_back(waiter);
                return Transfer::kRaised;
            }
        }
    }
    if (waiter.outcome != Outcome::kDone) return Transfer::kClosed;
    value = std::move(*waiter.item);
    place = waiter.order;
    return Transfer::kDone;
}

PyObject* received(ModuleState& state, Values& values, Value& value, std::uint64_t place) {
    PyObject* object = from_value(state, value);
    if (object == nullptr && may_succeed_later(value)) values.give_back(std::move(value), place);
    return object;
}

PyObject* queue_full_type(ModuleState& state) {
    return lazy_type(state.queue_full, "syncyte._queue_errors", "QueueFull");
}

PyObject* raise_queue_empty(ModuleState& state) {
    return raise_type(lazy_type(state.queue_empty, "syncyte._queue_empty", "QueueEmpty"));
}

PyObject* raise_queue_full(ModuleState& state) { return raise_type(queue_full_type(state)); }

PyObject* raise_queue_shut_down(ModuleState& state) {
    return raise_type(lazy_type(state.queue_shut_down, "syncyte._queue_errors", "QueueShutDown"));
}

PyObject* raise_channel_closed(ModuleState& state, const char* message) {
    PyErr_SetString(state.channel_closed, message);
    return nullptr;
}

}  // namespace syncyte::python
