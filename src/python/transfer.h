// Putting into and getting from a channel of values on behalf of Python code.
#pragma once

#include <Python.h>

#include <cstdint>

#include "base/clock.h"
#include "python/queue_core.h"
#include "python/state.h"

namespace syncyte::python {

enum class Transfer : std::uint8_t {
    kDone,
    kClosed,
    kTimedOut,  // or, with Deadline::now(), full or empty
    kRaised,    // a Python exception is set; nothing was put or taken
};

// Attached; detach while they wait. `value` is moved from only when done.
Transfer put_value(Values& values, Value& value, Deadline deadline);
// `place` is the value's in the channel, for received().
Transfer get_value(Values& values, Value& value, std::uint64_t& place, Deadline deadline);

// The object that a value stands for which was got. nullptr with a Python error set: the value is lost to
// what its own pickle raised; one for which only memory or stack was short has its place in the channel
// again.
PyObject* received(ModuleState& state, Values& values, Value& value, std::uint64_t place);

// The exceptions of the public API. Their bases in the standard library are imported when first needed,
// because importing `queue` costs an interpreter 5 ms. Each sets the exception and returns nullptr.
PyObject* raise_queue_empty(ModuleState& state);
PyObject* raise_queue_full(ModuleState& state);
PyObject* raise_queue_shut_down(ModuleState& state);
PyObject* raise_channel_closed(ModuleState& state, const char* message);

// Borrowed; nullptr with an error set.
PyObject* queue_full_type(ModuleState& state);

}  // namespace syncyte::python
