// Queue: queue.Queue's habits between any interpreters.
#pragma once

#include <Python.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "python/queue_core.h"
#include "python/state.h"
#include "python/transfer.h"

namespace syncyte::python {

int register_queue(PyObject* module, ModuleState& state);

// The core of a Queue object; nullptr (no error set) for anything else. Borrowed from `object`.
QueueCore* queue_core_of(const ModuleState& state, PyObject* object);

// The arguments (maxsize=0, *, pickle=True), `format` "|O$p:name", of Queue and create_channel. Null with an
// error set.
Ref<QueueCore> make_queue_core(const char* format, PyObject* args, PyObject* keywords);

// Converts each of `items`, before any is put. False with an error set.
bool to_values(ModuleState& state, PyObject* items, Pickling pickling, std::vector<Value>& values);

// Puts all of `values`, waiting for room as needed. `count` says how many were put, also on failure.
Transfer put_values(Values& channel, std::vector<Value>& values, Deadline deadline, std::size_t& count);

// At least one and at most `most` values and their places, waiting for the first.
Transfer get_values(Values& channel, std::vector<Value>& values, std::vector<std::uint64_t>& places,
                    std::size_t most, Deadline deadline);

// A list of what `values` stand for. As received(); on failure all others have their places again.
PyObject* received_list(ModuleState& state, Values& channel, std::vector<Value>& values,
                        const std::vector<std::uint64_t>& places);

// Calls syncyte._aio.name(object) or name(object, argument).
PyObject* call_aio(ModuleState& state, const char* name, PyObject* object, PyObject* argument = nullptr);

}  // namespace syncyte::python
