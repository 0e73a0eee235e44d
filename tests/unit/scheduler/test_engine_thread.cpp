#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <new>
#include <thread>

#include "fake_model.h"
#include "scheduler/engine_thread.h"
#include "scheduler/scheduler.h"

namespace syncyte {
namespace {

constexpr SchedulerOptions kOptions{
    .max_sequences = 4, .context_length = 64, .cells = 256, .rows_per_step = 8};

std::shared_ptr<Scheduler> make_scheduler() {
    auto model = std::make_shared<FakeModel>();
    auto context = model->make_context(ContextOptions{
        .cells = kOptions.cells, .max_sequences = 4, .rows_per_step = kOptions.rows_per_step, .threads = 1});
    return std::make_shared<Scheduler>(std::move(model), std::move(*context), kOptions);
}

Ref<Request> ask(Scheduler& scheduler, int max_tokens) {
    RequestOptions options;
    options.prompt = {'a', 'b'};
    options.max_tokens = max_tokens;
    options.sampling.temperature = 0;
    auto request = make_ref<Request>(std::move(options), nullptr);
    EXPECT_TRUE(scheduler.submit(request));
    EngineThread::of_process().wake();
    return request;
}

TEST(EngineThread, serves_requests_of_many_threads) {
    const auto scheduler = make_scheduler();
    ASSERT_TRUE(EngineThread::of_process().add(scheduler));
    std::vector<std::jthread> threads;
    for (int i = 0; i < 8; ++i) {
        threads.emplace_back([&] {
            for (int k = 0; k < 50; ++k) {
                const auto result = ask(*scheduler, 5)->finish(Deadline::after(60));
                ASSERT_TRUE(result);
                EXPECT_EQ(result->tokens.size(), 5U);
            }
        });
    }
    threads.clear();
    EngineThread::of_process().remove(scheduler);
}

TEST(EngineThread, who_hears_of_an_end_finds_it_in_the_statistics) {
    const auto scheduler = make_scheduler();
    ASSERT_TRUE(EngineThread::of_process().add(scheduler));
    for (int i = 0; i < 500; ++i) {
        const std::uint64_t before = scheduler->stats().rows;
        ASSERT_TRUE(ask(*scheduler, 3)->finish(Deadline::after(60)));
        const SchedulerStats stats = scheduler->stats();
        ASSERT_EQ(stats.running, 0);
        ASSERT_EQ(stats.reserved_cells, 0);
        ASSERT_GE(stats.rows, before + 3);
    }
    EngineThread::of_process().remove(scheduler);
}

TEST(EngineThread, serves_several_models_in_turn) {
    const auto a = make_scheduler();
    const auto b = make_scheduler();
    ASSERT_TRUE(EngineThread::of_process().add(a));
    ASSERT_TRUE(EngineThread::of_process().add(b));
    const auto first = ask(*a, 30);
    const auto second = ask(*b, 30);
    EXPECT_TRUE(first->finish(Deadline::after(60)));
    EXPECT_TRUE(second->finish(Deadline::after(60)));
    EngineThread::of_process().remove(a);
    EngineThread::of_process().remove(b);
}

TEST(EngineThread, models_share_its_time_evenly_however_long_their_steps_take) {
    // What a step really took: on a busy machine a sleep of 2 ms may well take 20.
    std::atomic<double> slow_seconds = 0;
    std::atomic<double> quick_seconds = 0;
    std::atomic<double> longest = 0;
    const auto stepping = [&longest](std::atomic<double>& seconds, int milliseconds) {
        auto model = std::make_shared<FakeModel>();
        auto cache = std::make_shared<FakeCache>();
        cache->cells = kOptions.cells;
        cache->before_step = [&seconds, &longest, milliseconds]() -> Result<void> {
            const auto start = Clock::now();
            std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
            const double took = seconds_between(start, Clock::now());
            seconds = seconds + took;
            longest = std::max(longest.load(), took);
            return {};
        };
        auto context = model->make_context(std::move(cache), kOptions.rows_per_step);
        return std::make_shared<Scheduler>(std::move(model), std::move(context), kOptions);
    };
    const auto slow = stepping(slow_seconds, 20);
    const auto quick = stepping(quick_seconds, 2);
    ASSERT_TRUE(EngineThread::of_process().add(slow));
    ASSERT_TRUE(EngineThread::of_process().add(quick));
    const auto long_one = ask(*slow, 30);
    const auto short_one = ask(*quick, 50);
    EXPECT_TRUE(short_one->finish(Deadline::after(60)));
    // Taking turns step by step, the slow one would have ten times the other's.
    EXPECT_LT(slow_seconds, 3 * quick_seconds + 2 * longest);
    EXPECT_GE(quick_seconds, 50 * 0.002);
    EXPECT_TRUE(long_one->finish(Deadline::after(60)));
    EngineThread::of_process().remove(slow);
    EngineThread::of_process().remove(quick);
}

TEST(EngineThread, one_that_runs_out_of_memory_fails_and_others_go_on) {
    auto model = std::make_shared<FakeModel>();
    auto cache = std::make_shared<FakeCache>();
    cache->cells = kOptions.cells;
    cache->before_step = []() -> Result<void> { throw std::bad_alloc(); };
    auto context = model->make_context(std::move(cache), kOptions.rows_per_step);
    const auto starved = std::make_shared<Scheduler>(std::move(model), std::move(context), kOptions);
    const auto other = make_scheduler();
    ASSERT_TRUE(EngineThread::of_process().add(starved));
    ASSERT_TRUE(EngineThread::of_process().add(other));
    const auto failing = ask(*starved, 3)->finish(Deadline::after(60));
    ASSERT_FALSE(failing);
    EXPECT_EQ(failing.error().code, ErrorCode::kModel);
    EXPECT_FALSE(ask(*starved, 3)->finish(Deadline::after(60)));
    EXPECT_EQ(starved->stats().running, 0);
    EXPECT_TRUE(ask(*other, 3)->finish(Deadline::after(60)));
    EngineThread::of_process().remove(starved);
    EngineThread::of_process().remove(other);
}

TEST(EngineThread, destroys_what_is_removed_soon_and_starts_again) {
    for (int i = 0; i < 20; ++i) {
        auto scheduler = make_scheduler();
        const std::weak_ptr<Scheduler> seen = scheduler;
        ASSERT_TRUE(EngineThread::of_process().add(scheduler));
        const auto request = ask(*scheduler, 3);
        EXPECT_TRUE(request->finish(Deadline::after(60)));
        EngineThread::of_process().remove(std::move(scheduler));
        const auto end = Clock::now() + std::chrono::seconds(60);
        while (!seen.expired() && Clock::now() < end) std::this_thread::yield();
        EXPECT_TRUE(seen.expired());
    }
}

TEST(EngineThread, ends_with_the_last_model) {
    const auto threads = [] {
        return std::ranges::distance(std::filesystem::directory_iterator("/proc/self/task"),
                                     std::filesystem::directory_iterator());
    };
    const auto scheduler = make_scheduler();
    ASSERT_TRUE(EngineThread::of_process().add(scheduler));
    ASSERT_TRUE(ask(*scheduler, 3)->finish(Deadline::after(60)));
    const auto before = threads();
    EngineThread::of_process().remove(scheduler);
    for (int i = 0; i < 10'000 && threads() >= before; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_EQ(threads(), before - 1);
}

TEST(EngineThread, a_removed_model_closes_what_waits_for_it) {
    auto scheduler = make_scheduler();
    ASSERT_TRUE(EngineThread::of_process().add(scheduler));
    const auto request = ask(*scheduler, 62);
    EngineThread::of_process().remove(std::move(scheduler));
    const auto result = request->finish(Deadline::after(60));
    if (!result) {
        EXPECT_EQ(result.error().code, ErrorCode::kClosed);
    }
}

// Last: it ends the engine of this process for good.
TEST(EngineThreadStop, ends_what_runs_and_refuses_what_comes) {
    const auto scheduler = make_scheduler();
    EngineThread& engine = EngineThread::of_process();
    ASSERT_TRUE(engine.add(scheduler));
    std::vector<Ref<Request>> requests;
    for (int i = 0; i < 20; ++i) requests.push_back(ask(*scheduler, 62));
    engine.stop();
    for (const auto& request : requests) {
        const auto result = request->finish(Deadline::after(60));
        if (!result) {
            EXPECT_EQ(result.error().code, ErrorCode::kClosed);
        }
    }
    EXPECT_FALSE(engine.usable());
    EXPECT_FALSE(engine.add(make_scheduler()));
    EXPECT_FALSE(ask(*scheduler, 3)->finish(Deadline::after(60)));
    engine.stop();
}

}  // namespace
}  // namespace syncyte
