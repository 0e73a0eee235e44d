#include "python/forks.h"

#include <pthread.h>

#include <mutex>

namespace syncyte::python {

namespace {

std::atomic<std::uint32_t>& generation() {
    static std::atomic<std::uint32_t> count{0};
    return count;
}

// In the child, with its only thread: nothing here may wait or allocate.
void note_child() {
    generation().fetch_add(1, std::memory_order_relaxed);
    pools_at_work().store(0, std::memory_order_relaxed);
}

}  // namespace

std::uint32_t fork_generation() {
    static std::once_flag once;
    std::call_once(once, [] { pthread_atfork(nullptr, nullptr, note_child); });
    return generation().load(std::memory_order_relaxed);
}

std::atomic<int>& pools_at_work() {
    static std::atomic<int> count{0};
    return count;
}

}  // namespace syncyte::python
