// Whether somebody listens at "host:port", found out in bounded time.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/error.h"

namespace syncyte {

// kInvalidArgument: not of the form "host:port", or "[address]:port" for one with colons.
Result<void> check_endpoint(const std::string& endpoint);

// Resolves the name and connects once, then hangs up. Blocks for `limit` at most. kModel: nobody answers, and
// why. Any thread.
Result<void> check_reachable(const std::string& endpoint, std::chrono::milliseconds limit);

// Whether all of them are there now. ggml ends the process when what is on a server has to be freed and the
// server is gone: then it is better not freed.
bool servers_answer(const std::vector<std::string>& endpoints);

}  // namespace syncyte
