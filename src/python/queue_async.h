// Waits of asyncio tasks: what syncyte._aio is made of.
#pragma once

#include <Python.h>

#include <cstdint>

#include "channel/port.h"
#include "python/state.h"

namespace syncyte::python {

// What tells an event loop that a wait of one of its tasks is over: its port, and a token for this wait. A
// null port with TypeError set when `object` is no Port.
struct PortToken {
    Ref<Port> port;
    std::uint64_t token = 0;
};
PortToken new_port_token(const ModuleState& state, PyObject* object);
// The port alone.
Ref<Port> port_of(const ModuleState& state, PyObject* object);

// Port and AsyncWait.
int register_queue_async(PyObject* module, ModuleState& state);

}  // namespace syncyte::python
