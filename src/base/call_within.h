// Calls that nobody can stop, for those who cannot wait for ever.
#pragma once

#include <future>
#include <optional>
#include <thread>
#include <type_traits>
#include <utility>

#include "base/clock.h"
#include "base/signals_blocked.h"

namespace syncyte {

// What `work` returns or throws, called on a thread of its own that blocks all signals. Nothing when that
// takes longer than until `end`: the thread is left to end by itself, so `work` must own what it uses.
template <class Work>
std::optional<std::invoke_result_t<Work&>> call_within(Clock::time_point end, Work work) {
    std::packaged_task<std::invoke_result_t<Work&>()> task(std::move(work));
    auto answer = task.get_future();
    {
        const SignalsBlocked blocked;
        std::thread(std::move(task)).detach();
    }
    if (answer.wait_until(end) != std::future_status::ready) return std::nullopt;
    return answer.get();
}

}  // namespace syncyte
