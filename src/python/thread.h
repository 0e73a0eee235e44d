// OS threads that Python code never sees: signals stay with the threads that expect them.
#pragma once

#include <pthread.h>

#include <string>
#include <thread>
#include <utility>

#include "base/signals_blocked.h"

namespace syncyte::python {

// Starts a thread that blocks all signals. `entry` must not throw.
template <class Entry>
std::thread start_thread(Entry&& entry) {
    const SignalsBlocked blocked;
    return std::thread(std::forward<Entry>(entry));
}

// As debuggers and `top` show it; the kernel keeps 15 bytes.
inline void name_this_thread(const std::string& name) {
    pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
}

}  // namespace syncyte::python
