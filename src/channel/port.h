// Where an event loop waits for many channels at once: one eventfd, and a list of what has become ready.
#pragma once

#include <cstdint>
#include <vector>

#include "base/error.h"
#include "base/lock.h"
#include "base/ref.h"

namespace syncyte {

// Shared by the event loop's thread, which drains it, and by whoever completes a wait, on any thread. Lock
// order: a channel's lock, then a port's.
//
// Invariant: when signalled_ is set, the eventfd is readable or somebody is about to make it so; who pushes
// onto a port that is not signalled owes one signal().
class Port final : public RefCounted {
  public:
    // Error kIo when the system has no descriptor left.
    static Result<Ref<Port>> open();

    // Readable while something is ready. Owned by the port.
    [[nodiscard]] int descriptor() const noexcept { return descriptor_; }

    // Adds the token of a finished wait. True: the caller must call signal(), best after it left its locks.
    [[nodiscard]] bool push(std::uint64_t token);
    void signal() const noexcept;

    // Takes the tokens pushed so far, oldest first, and makes the descriptor unreadable.
    std::vector<std::uint64_t> drain();

  private:
    explicit Port(int descriptor) : descriptor_(descriptor) {}
    ~Port() override;

    const int descriptor_;
    Lock lock_;
    bool signalled_ = false;
    std::vector<std::uint64_t> ready_;
};

}  // namespace syncyte
