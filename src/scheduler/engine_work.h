// What the engine thread takes turns at.
#pragma once

#include "base/error.h"

namespace syncyte {

class EngineWork {
  public:
    EngineWork() = default;
    virtual ~EngineWork() = default;
    EngineWork(const EngineWork&) = delete;
    EngineWork& operator=(const EngineWork&) = delete;

    // Engine thread: one batch step. False when there was nothing to do. Memory runs out: std::bad_alloc,
    // after which only fail_all() and the destructor may be called.
    virtual bool step() = 0;
    // Engine thread: ends every request, and every later one, with `error`.
    virtual void fail_all(const Error& error) = 0;
    // Any thread: makes the running step, and every later one, end soon; what is held then fails.
    virtual void interrupt() = 0;
};

}  // namespace syncyte
