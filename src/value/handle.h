// Things that travel between interpreters by reference, and how they are found again by a number.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/ref.h"

namespace syncyte {

// What a Handle is, so that each interpreter can wrap it in its own type. Kinds of higher layers are named
// here as well: a number is all the value layer needs to know of them.
enum class HandleKind : std::uint8_t {
    kMessage,
    kQueue,
    kSender,
    kReceiver,
    kBuffer,
    kShared,
    kModel,
    kLora,
    kPool,
    kFuture,
    kToken,
    kCount,
};

inline constexpr std::size_t kHandleKinds = static_cast<std::size_t>(HandleKind::kCount);

// Base of everything passed by reference. Any thread may hold, pass and drop it.
class Handle : public RefCounted {
  public:
    explicit Handle(HandleKind kind) noexcept : kind_(kind) {}

    [[nodiscard]] HandleKind kind() const noexcept { return kind_; }

    // A process-wide number, never used twice, given at the first call. find_handle() resolves it for as
    // long as somebody holds the handle.
    [[nodiscard]] std::uint64_t id() const;

  protected:
    ~Handle() override;

  private:
    HandleKind kind_;
    mutable std::atomic<std::uint64_t> id_{0};
};

}  // namespace syncyte
