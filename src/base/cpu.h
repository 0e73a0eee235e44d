// How many cores this process may use, and how busy the machine is.
#pragma once

namespace syncyte {

// Tells the core that this thread spins: its hardware sibling gets more of it, and power is saved.
inline void cpu_relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Asks for the cache line at `address`, to write to it, and goes on. A hint: any address will do.
inline void fetch_to_write(const void* address) noexcept {
#if defined(__x86_64__) || defined(__i386__)
    asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(address)));
#else
    __builtin_prefetch(address, 1);
#endif
}

// Cores of the machine that are switched on.
int online_cores() noexcept;

// Cores this process may use at once: its affinity mask, further bounded by the CPU quota of its control
// group (version 2 or 1, rounded up). At least 1. Looked up again once a second. Any thread.
int usable_cores() noexcept;

// Threads of the whole machine that run or wait for a core right now, the caller included. At most a
// millisecond old. 1 where the system does not tell. Any thread; a fresh look costs about 2 us.
int running_threads() noexcept;

// The same, looked up now.
int running_threads_now() noexcept;

// The CPU quota in cores that `root` (normally "/sys/fs/cgroup") grants the group named by the text of
// /proc/self/cgroup; 0 when there is none. For usable_cores() and its tests.
double quota_cores(const char* root, const char* groups);

}  // namespace syncyte
