// Pools and fork(): a child process has none of its parent's threads, so none of its parent's pools.
#pragma once

#include <atomic>
#include <cstdint>

namespace syncyte::python {

// Counts the forks between the first process and this one, from the first call on. Any thread.
std::uint32_t fork_generation();

// Pools of this process that have workers now.
std::atomic<int>& pools_at_work();

}  // namespace syncyte::python
