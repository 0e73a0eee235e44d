#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/endpoint.h"

namespace syncyte {
namespace {

using std::chrono::milliseconds;

// A socket on a free port of the loopback, that nobody accepts from.
class Socket {
  public:
    explicit Socket(int backlog) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof(address);
        auto* generic = reinterpret_cast<sockaddr*>(&address);
        good_ = socket_ >= 0 && ::bind(socket_, generic, size) == 0 &&
                (backlog == 0 || ::listen(socket_, backlog) == 0) &&
                ::getsockname(socket_, generic, &size) == 0;
        port_ = ntohs(address.sin_port);
    }
    ~Socket() { ::close(socket_); }
    Socket(const Socket&) = delete;
    Socket& operator=(const Socket&) = delete;

    [[nodiscard]] bool good() const { return good_; }
    [[nodiscard]] std::string endpoint(const std::string& host) const {
        return host + ":" + std::to_string(port_);
    }

  private:
    int socket_;
    bool good_ = false;
    int port_ = 0;
};

TEST(Endpoint, is_host_and_port) {
    for (const char* good : {"localhost:50052", "10.0.0.2:1", "[::1]:65535"}) {
        EXPECT_TRUE(check_endpoint(good)) << good;
    }
    for (const char* bad : {"", "localhost", ":50052", "localhost:", "localhost:0", "localhost:65536",
                            "localhost:1x", "::1:50052", "[]:1"}) {
        const auto checked = check_endpoint(bad);
        ASSERT_FALSE(checked) << bad;
        EXPECT_EQ(checked.error().code, ErrorCode::kInvalidArgument);
        EXPECT_FALSE(check_reachable(bad, milliseconds(10))) << bad;
    }
}

TEST(Endpoint, answers_where_somebody_listens) {
    const Socket listening(8);
    ASSERT_TRUE(listening.good());
    EXPECT_TRUE(check_reachable(listening.endpoint("127.0.0.1"), milliseconds(5000)));
    EXPECT_TRUE(servers_answer({listening.endpoint("127.0.0.1")}));
    EXPECT_TRUE(servers_answer({}));
}

TEST(Endpoint, of_nobody_is_an_error_that_names_it) {
    const Socket bound(0);
    ASSERT_TRUE(bound.good());
    const std::string endpoint = bound.endpoint("127.0.0.1");
    const auto reached = check_reachable(endpoint, milliseconds(5000));
    ASSERT_FALSE(reached);
    EXPECT_EQ(reached.error().code, ErrorCode::kModel);
    EXPECT_NE(reached.error().message.find(endpoint), std::string::npos);
    EXPECT_FALSE(servers_answer({endpoint}));
}

TEST(Endpoint, that_never_answers_is_given_up_in_time) {
    // A full backlog: the kernel drops what comes, as a host that is switched off does.
    const Socket listening(1);
    ASSERT_TRUE(listening.good());
    const std::string endpoint = listening.endpoint("127.0.0.1");
    const Clock::time_point start = Clock::now();
    bool gave_up = false;
    for (int i = 0; i < 8 && !gave_up; ++i) gave_up = !check_reachable(endpoint, milliseconds(200));
    EXPECT_TRUE(gave_up);
    EXPECT_LT(seconds_between(start, Clock::now()), 10);
}

}  // namespace
}  // namespace syncyte
