#include "channel/port.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>
#include <utility>

namespace syncyte {

Result<Ref<Port>> Port::open() {
    const int descriptor = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (descriptor < 0) {
        return failure(ErrorCode::kIo, std::string("cannot make an eventfd: ") + std::strerror(errno));
    }
    return Ref<Port>::adopt(new Port(descriptor));
}

Port::~Port() { close(descriptor_); }

bool Port::push(std::uint64_t token) {
    const std::lock_guard guard(lock_);
    ready_.push_back(token);
    return !std::exchange(signalled_, true);
}

void Port::signal() const noexcept {
    const std::uint64_t one = 1;
    // Cannot fail but by overflow, and then the descriptor is readable anyway.
    [[maybe_unused]] const ssize_t written = write(descriptor_, &one, sizeof one);
}

std::vector<std::uint64_t> Port::drain() {
    std::uint64_t count = 0;
    // Before the list is taken: what is pushed in between is in the list, and what comes later signals anew.
    [[maybe_unused]] const ssize_t length = read(descriptor_, &count, sizeof count);
    const std::lock_guard guard(lock_);
    signalled_ = false;
    return std::exchange(ready_, {});
}

}  // namespace syncyte
