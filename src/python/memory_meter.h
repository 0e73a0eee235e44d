// How much memory each interpreter has taken, and where it must stop.
//
// CPython has no such count, so its public allocator hooks are used: every arena of small objects and every
// larger block passes through here. They belong to whichever interpreter the calling thread is attached to.
// Counted is what the interpreter holds, arenas that are partly free included. Not counted: what C libraries
// allocate by themselves, what threads take while detached, and what is freed in another interpreter.
#pragma once

#include <Python.h>

#include <atomic>
#include <cstdint>

namespace syncyte::python {

// One interpreter's. Lives as long as the process. Written by threads attached to that interpreter, which
// take turns; read by anybody.
struct MemoryMeter {
    std::atomic<std::int64_t> interpreter{-1};  // its number
    std::atomic<std::int64_t> bytes{0};
    std::atomic<std::int64_t> limit{0};  // allocations that would exceed it fail; 0: none
    std::atomic<bool> exceeded{false};   // one has failed
};

// Begins to count, for the whole process and for good. False when another allocator than CPython's own is
// in use (PYTHONMALLOC, -X dev, tracemalloc), which leaves no room for hooks. Attached; any number of times.
bool install_memory_meters();

// The meter of the interpreter that the calling thread is attached to; nullptr when nothing is counted.
MemoryMeter* memory_meter_here();

}  // namespace syncyte::python
