#include "engine/endpoint.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include "base/call_within.h"

namespace syncyte {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

struct HostPort {
    std::string host;
    std::string port;
};

std::optional<HostPort> split(const std::string& endpoint) {
    const std::size_t colon = endpoint.rfind(':');
    if (colon == std::string::npos || endpoint.find('\0') != std::string::npos) return std::nullopt;
    HostPort parts{.host = endpoint.substr(0, colon), .port = endpoint.substr(colon + 1)};
    const char* end = parts.port.data() + parts.port.size();
    int number = 0;
    const auto [stopped, error] = std::from_chars(parts.port.data(), end, number);
    if (error != std::errc() || stopped != end || number < 1 || number > 65535) return std::nullopt;
    if (parts.host.starts_with('[') && parts.host.ends_with(']')) {
        parts.host = parts.host.substr(1, parts.host.size() - 2);
    } else if (parts.host.contains(':')) {
        return std::nullopt;
    }
    if (parts.host.empty()) return std::nullopt;
    return parts;
}

milliseconds left_until(steady_clock::time_point end) {
    const auto left = std::chrono::ceil<milliseconds>(end - steady_clock::now());
    return std::max(left, milliseconds(0));
}

std::unexpected<Error> silent(const std::string& endpoint, const std::string& why) {
    return failure(ErrorCode::kModel, "no RPC server answers at " + endpoint + ": " + why);
}

struct FreeAddresses {
    void operator()(addrinfo* found) const noexcept { ::freeaddrinfo(found); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;

struct Lookup {
    int error = 0;
    Addresses found;
};

Lookup look_up(const HostPort& parts) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    const int error = ::getaddrinfo(parts.host.c_str(), parts.port.c_str(), &hints, &found);
    return {.error = error, .found = Addresses(found)};
}

// Null with `why` set when the name does not resolve in time.
Addresses resolve(HostPort parts, steady_clock::time_point end, std::string& why) {
    std::optional<Lookup> lookup = call_within(end, [parts = std::move(parts)] { return look_up(parts); });
    if (!lookup) {
        why = "its name was not resolved in time";
        return nullptr;
    }
    if (lookup->error != 0) why = ::gai_strerror(lookup->error);
    return std::move(lookup->found);
}

// 0, or the error.
int connect_to(const addrinfo& address, steady_clock::time_point end) {
    const int socket =
        ::socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, address.ai_protocol);
    if (socket < 0) return errno;
    int error = ::connect(socket, address.ai_addr, address.ai_addrlen) == 0 ? 0 : errno;
    while (error == EINPROGRESS) {
        pollfd poll{.fd = socket, .events = POLLOUT, .revents = 0};
        const int ready = ::poll(&poll, 1, static_cast<int>(left_until(end).count()));
        if (ready < 0 && errno == EINTR) continue;
        socklen_t size = sizeof(error);
        if (ready == 0) {
            error = ETIMEDOUT;
        } else if (ready < 0 || ::getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
            error = errno;
        }
    }
    ::close(socket);
    return error;
}

}  // namespace

Result<void> check_endpoint(const std::string& endpoint) {
    if (split(endpoint)) return {};
    return failure(ErrorCode::kInvalidArgument,
                   R"(an RPC server is named "host:port", as in "127.0.0.1:50052", not ")" + endpoint + "\"");
}

Result<void> check_reachable(const std::string& endpoint, milliseconds limit) {
    auto parts = split(endpoint);
    if (!parts) return check_endpoint(endpoint);
    const auto end = steady_clock::now() + limit;
    std::string why;
    const Addresses found = resolve(std::move(*parts), end, why);
    if (found == nullptr) return silent(endpoint, why);
    int error = 0;
    for (const addrinfo* address = found.get(); address != nullptr; address = address->ai_next) {
        error = connect_to(*address, end);
        if (error == 0) break;
    }
    if (error != 0) return silent(endpoint, std::generic_category().message(error));
    return {};
}

bool servers_answer(const std::vector<std::string>& endpoints) {
    return std::ranges::all_of(endpoints, [](const std::string& one) {
        return check_reachable(one, milliseconds(1000)).has_value();
    });
}

}  // namespace syncyte
