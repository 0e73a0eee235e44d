#include "python/memory_meter.h"

#include <malloc.h>

#include <array>
#include <mutex>

namespace syncyte::python {

namespace {

// More than anybody has at a time.
constexpr std::size_t kMeters = 4096;

// One of these per process, as CPython has one set of hooks. Written once, by install_memory_meters(), before
// the hooks that read it are in place.
struct Hooks {
    PyMemAllocatorEx raw{};
    PyObjectArenaAllocator arena{};
    std::array<MemoryMeter, kMeters> meters;
    std::once_flag once;
    bool installed = false;

    static Hooks& of_process() {
        static auto* const hooks = new Hooks;
        return *hooks;
    }
};

// Set before the hooks are: no guard of a function's static on the way of each allocation.
Hooks* hooks = nullptr;

// Numbers of interpreters are never used twice. A later one may find the place of an earlier one, most likely
// gone, and takes it over.
MemoryMeter* meter_of(PyInterpreterState* interpreter) {
    const std::int64_t id = PyInterpreterState_GetID(interpreter);
    const auto place = id <= 0 ? 0 : 1 + static_cast<std::size_t>(id - 1) % (kMeters - 1);
    MemoryMeter& meter = hooks->meters[place];
    const std::int64_t owner = meter.interpreter.load(std::memory_order_relaxed);
    if (owner == id) return &meter;
    if (owner > id) return nullptr;
    meter.bytes.store(0, std::memory_order_relaxed);
    meter.limit.store(0, std::memory_order_relaxed);
    meter.exceeded.store(false, std::memory_order_relaxed);
    meter.interpreter.store(id, std::memory_order_relaxed);
    return &meter;
}

MemoryMeter* meter_here() {
    PyThreadState* thread = PyThreadState_GetUnchecked();
    return thread == nullptr ? nullptr : meter_of(PyThreadState_GetInterpreter(thread));
}

bool allows(MemoryMeter* meter, std::int64_t more) {
    if (meter == nullptr) return true;
    const std::int64_t limit = meter->limit.load(std::memory_order_relaxed);
    if (limit == 0 || more <= 0 || meter->bytes.load(std::memory_order_relaxed) + more <= limit) return true;
    meter->exceeded.store(true, std::memory_order_relaxed);
    return false;
}

// Threads of one interpreter take turns: no need of an atomic addition.
void add(MemoryMeter* meter, std::int64_t more) {
    if (meter == nullptr) return;
    meter->bytes.store(meter->bytes.load(std::memory_order_relaxed) + more, std::memory_order_relaxed);
}

std::int64_t size_of(void* block) { return static_cast<std::int64_t>(malloc_usable_size(block)); }

void* raw_malloc(void* context, std::size_t size) {
    MemoryMeter* meter = meter_here();
    if (!allows(meter, static_cast<std::int64_t>(size))) return nullptr;
    void* block = hooks->raw.malloc(context, size);
    if (block != nullptr) add(meter, size_of(block));
    return block;
}

void* raw_calloc(void* context, std::size_t count, std::size_t size) {
    MemoryMeter* meter = meter_here();
    if (!allows(meter, static_cast<std::int64_t>(count * size))) return nullptr;
    void* block = hooks->raw.calloc(context, count, size);
    if (block != nullptr) add(meter, size_of(block));
    return block;
}

void* raw_realloc(void* context, void* old, std::size_t size) {
    MemoryMeter* meter = meter_here();
    const std::int64_t before = old == nullptr ? 0 : size_of(old);
    if (!allows(meter, static_cast<std::int64_t>(size) - before)) return nullptr;
    void* block = hooks->raw.realloc(context, old, size);
    if (block != nullptr) add(meter, size_of(block) - before);
    return block;
}

void raw_free(void* context, void* block) {
    if (block != nullptr) add(meter_here(), -size_of(block));
    hooks->raw.free(context, block);
}

void* arena_alloc(void* context, std::size_t size) {
    MemoryMeter* meter = meter_here();
    if (!allows(meter, static_cast<std::int64_t>(size))) return nullptr;
    void* arena = hooks->arena.alloc(context, size);
    if (arena != nullptr) add(meter, static_cast<std::int64_t>(size));
    return arena;
}

void arena_free(void* context, void* arena, std::size_t size) {
    add(meter_here(), -static_cast<std::int64_t>(size));
    hooks->arena.free(context, arena, size);
}

// With CPython's own allocators in place, block sizes are known to the C library.
bool install(Hooks& mine) {
    PyMemAllocatorEx objects{};
    PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &mine.raw);
    PyMem_GetAllocator(PYMEM_DOMAIN_OBJ, &objects);
    PyObject_GetArenaAllocator(&mine.arena);
    if (mine.raw.ctx != nullptr || mine.arena.ctx != nullptr || objects.malloc == mine.raw.malloc)
        return false;
    hooks = &mine;
    PyMemAllocatorEx raw{
        .ctx = nullptr, .malloc = raw_malloc, .calloc = raw_calloc, .realloc = raw_realloc, .free = raw_free};
    PyMem_SetAllocator(PYMEM_DOMAIN_RAW, &raw);
    PyObjectArenaAllocator arena{.ctx = nullptr, .alloc = arena_alloc, .free = arena_free};
    PyObject_SetArenaAllocator(&arena);
    return true;
}

}  // namespace

bool install_memory_meters() {
    Hooks& mine = Hooks::of_process();
    std::call_once(mine.once, [&mine] { mine.installed = install(mine); });
    return mine.installed;
}

MemoryMeter* memory_meter_here() { return Hooks::of_process().installed ? meter_here() : nullptr; }

}  // namespace syncyte::python
