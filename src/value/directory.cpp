#include "value/directory.h"

#include <sys/random.h>
#include <unistd.h>

#include <chrono>
#include <deque>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/clock.h"

namespace syncyte {

namespace {

struct Pin {
    Ref<Handle> handle;
    Clock::time_point since;
};

// One per process and never destroyed: handles may outlive static destruction.
//
// `known` holds plain pointers. ~Handle takes the lock to remove itself, so whoever finds a pointer under
// the lock may touch the object; try_retain() then tells whether it is still wanted.
struct Directory {
    std::mutex lock;
    std::uint64_t last_id = 0;
    std::unordered_map<std::uint64_t, const Handle*> known;
    std::deque<Pin> pins;  // oldest first

    static Directory& of_process() {
        static auto* const directory = new Directory;
        return *directory;
    }

    // Moves out what has had its time, for the caller to drop outside the lock: dropping a last
    // reference runs a destructor that takes it.
    void expire(std::vector<Pin>& expired) {
        const auto oldest = Clock::now() - std::chrono::duration_cast<Clock::duration>(
                                               std::chrono::duration<double>(kPinSeconds));
        while (!pins.empty() && (pins.size() > kMaxPins || pins.front().since < oldest)) {
            expired.push_back(std::move(pins.front()));
            pins.pop_front();
        }
    }
};

}  // namespace

std::uint64_t Handle::id() const {
    std::uint64_t id = id_.load(std::memory_order_acquire);
    if (id != 0) return id;
    Directory& directory = Directory::of_process();
    const std::lock_guard guard(directory.lock);
    id = id_.load(std::memory_order_relaxed);
    if (id != 0) return id;
    id = ++directory.last_id;
    directory.known.emplace(id, this);
    id_.store(id, std::memory_order_release);
    return id;
}

Handle::~Handle() {
    const std::uint64_t id = id_.load(std::memory_order_acquire);
    if (id == 0) return;
    Directory& directory = Directory::of_process();
    const std::lock_guard guard(directory.lock);
    directory.known.erase(id);
}

Ref<Handle> find_handle(std::uint64_t id) {
    std::vector<Pin> expired;  // dropped after the lock
    Directory& directory = Directory::of_process();
    const std::lock_guard guard(directory.lock);
    const auto found = directory.known.find(id);
    Ref<Handle> handle;
    if (found != directory.known.end() && found->second->try_retain()) {
        handle = Ref<Handle>::adopt(const_cast<Handle*>(found->second));
        for (auto pin = directory.pins.begin(); pin != directory.pins.end(); ++pin) {
            if (pin->handle == handle) {
                expired.push_back(std::move(*pin));
                directory.pins.erase(pin);
                break;
            }
        }
    }
    directory.expire(expired);
    return handle;
}

void pin_handle(const Ref<Handle>& handle) {
    std::vector<Pin> expired;
    Directory& directory = Directory::of_process();
    const std::lock_guard guard(directory.lock);
    directory.pins.push_back({handle, Clock::now()});
    directory.expire(expired);
}

std::size_t pinned_handles() {
    Directory& directory = Directory::of_process();
    const std::lock_guard guard(directory.lock);
    return directory.pins.size();
}

std::uint64_t process_identity() {
    static const std::uint64_t random = [] {
        std::uint64_t bits = 0;
        if (getrandom(&bits, sizeof bits, 0) != sizeof bits) {
            bits = static_cast<std::uint64_t>(Clock::now().time_since_epoch().count());
        }
        return bits;
    }();
    // A golden-ratio multiply spreads the process id over all bits: a fork keeps `random` but not the id.
    return random ^ (static_cast<std::uint64_t>(getpid()) * 0x9e3779b97f4a7c15ULL);
}

}  // namespace syncyte
