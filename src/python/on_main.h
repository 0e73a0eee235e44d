// A call in the main interpreter from a thread of another: extension modules that refuse to be anywhere else
// live there.
#pragma once

#include <Python.h>

#include <atomic>
#include <cstdint>

#include "base/ref.h"
#include "python/state.h"

namespace syncyte::python {

// One thread's visits to the main interpreter, for whoever has to interrupt what it does there.
//
// Invariants. A visit has a number that no other has. It begins while the thread is attached to its own
// interpreter, and arrives and ends while it is attached to the main one. So an interrupter that is attached
// to the former sees each visit that has begun and not ended; attached to the latter, it sees whether that
// one has arrived and still goes on, and nothing can end it meanwhile. A visit that has not arrived finds
// itself unwanted then. The numbers are read and written under these locks or ordered by them, so relaxed
// atomics suffice.
class Visits : public RefCounted {
  public:
    static const Ref<Visits>& of_this_thread();

    // The visiting thread's: begin() returns what to give back to end(). arrive(): false if somebody has
    // interrupted it on its way.
    std::uint64_t begin();
    [[nodiscard]] bool arrive();
    void end(std::uint64_t before);

    // Attached to the thread's own interpreter: marks the present visit as unwanted and returns its number; 0
    // if there is none.
    std::uint64_t give_up();
    // Detached, on another thread: raises TaskInterrupted in what the thread `ident` does on that visit.
    // Blocks while a long C call holds the main interpreter's lock.
    void interrupt(std::uint64_t visit, unsigned long ident) const;

  private:
    std::atomic<std::uint64_t> present_{0};
    std::atomic<std::uint64_t> arrived_{0};
    std::atomic<std::uint64_t> unwanted_{0};
};

// _is_main(), _call_on_main(message), _idle_cores(): see _core.pyi.
int register_on_main(PyObject* module, ModuleState& state);

}  // namespace syncyte::python
