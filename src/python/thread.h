// OS threads that Python code never sees: signals stay with the threads that expect them.
#pragma once

#include <pthread.h>
#include <signal.h>

#include <string>
#include <thread>
#include <utility>

namespace syncyte::python {

// Starts a thread that blocks all signals. `entry` must not throw.
template <class Entry>
std::thread start_thread(Entry&& entry) {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    std::thread thread(std::forward<Entry>(entry));
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return thread;
}

// As debuggers and `top` show it; the kernel keeps 15 bytes.
inline void name_this_thread(const std::string& name) {
    pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
}

}  // namespace syncyte::python
