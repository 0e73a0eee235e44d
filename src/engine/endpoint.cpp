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

// What the resolver works on. It may outlive the wait for it.
struct Lookup {
    HostPort parts;
    addrinfo hints{};
    gaicb request{};
};

// Null with `why` set when the name does not resolve in time.
addrinfo* resolve(HostPort parts, steady_clock::time_point end, std::string& why) {
    auto lookup = std::make_unique<Lookup>();
    lookup->parts = std::move(parts);
    lookup->hints.ai_socktype = SOCK_STREAM;
    lookup->request.ar_name = lookup->parts.host.c_str();
    lookup->request.ar_service = lookup->parts.port.c_str();
    lookup->request.ar_request = &lookup->hints;
    gaicb* list[] = {&lookup->request};
    if (const int error = ::getaddrinfo_a(GAI_NOWAIT, list, 1, nullptr); error != 0) {
        why = ::gai_strerror(error);
        return nullptr;
    }
    int state = EAI_INPROGRESS;
    while ((state = ::gai_error(&lookup->request)) == EAI_INPROGRESS) {
        const milliseconds left = left_until(end);
        if (left.count() == 0) {
            why = "its name was not resolved in time";
            // Still being worked on: it is the resolver's now.
            if (::gai_cancel(&lookup->request) != EAI_CANCELED) {
                [[maybe_unused]] const Lookup* const left_to_it = lookup.release();
            }
            return nullptr;
        }
        const timespec wait{.tv_sec = left.count() / 1000, .tv_nsec = left.count() % 1000 * 1'000'000};
        const gaicb* waited[] = {&lookup->request};
        static_cast<void>(::gai_suspend(waited, 1, &wait));
    }
    if (state != 0) why = ::gai_strerror(state);
    return state == 0 ? lookup->request.ar_result : nullptr;
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
    addrinfo* const found = resolve(std::move(*parts), end, why);
    if (found == nullptr) return silent(endpoint, why);
    int error = 0;
    for (const addrinfo* address = found; address != nullptr; address = address->ai_next) {
        error = connect_to(*address, end);
        if (error == 0) break;
    }
    ::freeaddrinfo(found);
    if (error != 0) return silent(endpoint, std::generic_category().message(error));
    return {};
}

bool servers_answer(const std::vector<std::string>& endpoints) {
    return std::ranges::all_of(endpoints, [](const std::string& one) {
        return check_reachable(one, milliseconds(1000)).has_value();
    });
}

}  // namespace syncyte
