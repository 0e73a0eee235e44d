// A scheduler over the fake model, with a clock of the test's own and requests of several kinds.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <utility>

#include "scheduler_test.h"

namespace syncyte {

inline Clock::time_point the_time;

inline Clock::time_point test_time() { return the_time; }

class SchedulingTest : public SchedulerTest {
  protected:
    // Every step takes `step_seconds_` of the test's own time.
    void make_timed(SchedulerOptions options, FakeNext next = hashed_letter) {
        options.now = &test_time;
        make(options, std::move(next));
        cache_->before_step = [this]() -> Result<void> {
            pass(step_seconds_);
            return {};
        };
    }

    static void pass(double seconds) {
        the_time += std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    }

    static Deadline in(double seconds) {
        return Deadline::at(
            the_time + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds)));
    }

    Ref<Request> submit_urgent(std::string_view prompt, int max_tokens, int priority,
                               Deadline deadline = Deadline::never()) {
        RequestOptions options = ask(prompt, max_tokens);
        options.priority = priority;
        options.deadline = deadline;
        return submit(std::move(options));
    }

    Ref<Request> submit_salted(std::string_view prompt, std::string salt) {
        RequestOptions options = ask(prompt, 4);
        options.cache_salt = std::move(salt);
        return submit(std::move(options));
    }

    Ref<Request> submit_prefix(std::string_view prompt, Purpose purpose) {
        RequestOptions options = ask(prompt, 1);
        options.purpose = purpose;
        return submit(std::move(options));
    }

    // Steps until all have ended; which ended when, by index.
    std::vector<std::size_t> order_of_ends(const std::vector<Ref<Request>>& requests) {
        std::vector<std::size_t> order;
        std::vector<bool> ended(requests.size());
        for (int i = 0; i < 10'000; ++i) {
            const bool worked = scheduler_->step();
            for (std::size_t k = 0; k < requests.size(); ++k) {
                if (ended[k] || !requests[k]->finish(Deadline::now())) continue;
                ended[k] = true;
                order.push_back(k);
            }
            if (!worked) break;
        }
        return order;
    }

    double step_seconds_ = 0.01;
};

}  // namespace syncyte
