// Handles by number: what lets a handle travel inside bytes that somebody else carries (a pickle).
//
// Lifetime in flight. A number keeps nothing alive. pin_handle() does, for a carrier that holds only bytes:
// the pin ends when the number is first resolved, when kMaxPins newer ones exist, or, at the next call
// into the directory, when it is kPinSeconds old. So handles that are pickled and never unpickled cost a
// bounded number of objects, and a million passed through a queue cost none.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/ref.h"
#include "value/handle.h"

namespace syncyte {

inline constexpr std::size_t kMaxPins = 1024;
inline constexpr double kPinSeconds = 60;

// The handle with this number; null when its last owner has let go. Ends one pin, the oldest, of it. Any
// thread.
[[nodiscard]] Ref<Handle> find_handle(std::uint64_t id);

// Keeps `handle` alive for a carrier that holds its number only; see above. Any thread.
void pin_handle(const Ref<Handle>& handle);

// Pins now held. For tests and statistics.
[[nodiscard]] std::size_t pinned_handles();

// Differs between any two processes, a fork of this one included.
[[nodiscard]] std::uint64_t process_identity();

}  // namespace syncyte
