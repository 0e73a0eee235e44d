// syncyte.SharedBuffer.
#pragma once

#include <Python.h>

#include "python/state.h"
#include "value/buffer.h"

namespace syncyte::python {

// What `object` views; nullptr (no error set) when it is not a SharedBuffer. Borrowed.
const BufferView* buffer_view_of(const ModuleState& state, PyObject* object);

// The DLPack capsule for SharedBuffer.__dlpack__: `versioned` in the layout of DLPack 1.0, which alone can
// say that the data is read-only. BufferError where the consumer asked for what memory here cannot give.
PyObject* make_dlpack_capsule(const BufferView& view, bool versioned);

int register_buffer(PyObject* module, ModuleState& state);

}  // namespace syncyte::python
