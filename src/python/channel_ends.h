// create_channel() and the two ends it makes.
#pragma once

#include <Python.h>

#include "python/queue_core.h"
#include "python/state.h"

namespace syncyte::python {

// Sender, Receiver, create_channel and ChannelClosed.
int register_channel_ends(PyObject* module, ModuleState& state);

// The core of a Sender or Receiver object; nullptr (no error set) for anything else. Borrowed from `object`,
// and replaced when that end is closed: a call that waits keeps a Ref of its own.
EndCore* end_core_of(const ModuleState& state, PyObject* object);

}  // namespace syncyte::python
