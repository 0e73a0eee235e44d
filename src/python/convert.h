// Python objects to messages and back.
//
// Copied natively, exact types only: None, bool, int, float, complex, str, bytes, bytearray, tuple, list,
// dict, set, frozenset. By reference: handles. Everything else, subclasses of the above included, goes into
// one pickle that the message carries, in place of just that element. A list, tuple, dict, set, frozenset,
// bytearray or pickled object that occurs several times in a message arrives as one object, and cycles
// arrive as cycles.
#pragma once

#include <Python.h>

#include <cstdint>
#include <optional>

#include "python/state.h"
#include "value/value.h"

namespace syncyte::python {

enum class Pickling : std::uint8_t { kAllowed, kForbidden };

// A message that stands for `object` as it is now. On failure nothing, with a Python error set: TypeError for
// what may not or cannot be pickled, ValueError for nesting beyond kMaxDepth, whatever a __reduce__ raised.
// The message names where in the structure the trouble sits. User code runs only inside pickle, after the
// rest has been read.
std::optional<Value> to_value(ModuleState& state, PyObject* object, Pickling pickling = Pickling::kAllowed);

// A new object, equal to and of the same type as the one to_value() read. nullptr with a Python error set:
// what a pickle raised, MemoryError, or ImportError for a handle this interpreter cannot wrap. The value may
// be read any number of times, in any interpreter.
PyObject* from_value(ModuleState& state, const Value& value);

}  // namespace syncyte::python
