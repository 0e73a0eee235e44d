// Who goes first, who gives way, and what happens when time or room runs out.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "scheduling_test.h"

namespace syncyte {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr SchedulerOptions kOne{.max_sequences = 1, .context_length = 64, .cells = 64, .rows_per_step = 16};
constexpr SchedulerOptions kFour{.max_sequences = 4, .context_length = 64, .cells = 256, .rows_per_step = 16};

TEST_F(SchedulingTest, the_highest_priority_goes_first) {
    make_timed(kOne);
    const auto low = submit_urgent("a", 3, -1);
    const auto first = submit_urgent("b", 3, 0);
    const auto second = submit_urgent("c", 3, 0);
    const auto high = submit_urgent("d", 3, 7);
    EXPECT_THAT(order_of_ends({low, first, second, high}), ElementsAre(3, 1, 2, 0));
}

TEST_F(SchedulingTest, the_earliest_deadline_goes_first_within_a_priority) {
    make_timed(kOne);
    const auto never = submit_urgent("a", 3, 0);
    const auto late = submit_urgent("b", 3, 0, in(100));
    const auto soon = submit_urgent("c", 3, 0, in(50));
    const auto high = submit_urgent("d", 3, 1, in(1000));
    EXPECT_THAT(order_of_ends({never, late, soon, high}), ElementsAre(3, 2, 1, 0));
}

TEST_F(SchedulingTest, who_waits_rises_until_nobody_passes) {
    make_timed(kOne);
    step_seconds_ = 1;
    const auto patient = submit_urgent("patient", 10, 0);
    Ref<Request> rival = submit_urgent("x", 5, 3);
    int rivals = 0;
    while (!patient->finish(Deadline::now())) {
        ASSERT_LT(rivals, 100) << "it starves";
        scheduler_->step();
        if (!rival->finish(Deadline::now())) continue;
        rival = submit_urgent("x", 5, 3);
        ++rivals;
    }
    EXPECT_GE(rivals, 5) << "three levels are thirty seconds";
    EXPECT_LE(rivals, 9);
    run();
}

TEST_F(SchedulingTest, a_running_prompt_rises_while_others_fill_the_steps) {
    make_timed({.max_sequences = 8, .context_length = 512, .cells = 4096, .rows_per_step = 64});
    step_seconds_ = 0.1;
    std::vector<Ref<Request>> flood;
    int floods = 0;
    const auto refill = [&] {
        for (Ref<Request>& one : flood) {
            if (!one->finish(Deadline::now())) continue;
            const std::string text(200, static_cast<char>('a' + ++floods % 26));
            one = submit_urgent(text + std::to_string(floods), 1, 1);
        }
    };
    for (char name = 'A'; name < 'E'; ++name) flood.push_back(submit_urgent(std::string(200, name), 1, 1));
    scheduler_->step();
    const auto patient = submit_urgent(long_prefix() + "patient", 3, 0);
    int steps = 0;
    for (; !patient->finish(Deadline::now()) && steps < 1000; ++steps, refill()) scheduler_->step();
    EXPECT_LT(steps, 200) << "one level is ten seconds, which are a hundred steps";

    // Who waits for what another computes lends that one its own urgency.
    const auto slow = submit_urgent(std::string(150, '~') + "slow", 3, 0);
    for (int i = 0; i < 5; ++i, refill()) scheduler_->step();
    const auto urgent = submit_urgent(std::string(150, '~') + "urgent", 3, 100);
    for (steps = 0; !urgent->finish(Deadline::now()) && steps < 1000; ++steps, refill()) scheduler_->step();
    EXPECT_LT(steps, 20);
    flood.clear();
    run();
    EXPECT_EQ(done(slow).text, expected(std::string(150, '~') + "slow", 3));
}

TEST_F(SchedulingTest, an_urgent_request_takes_a_place_at_once) {
    make_timed(kFour);
    std::vector<Ref<Request>> running;
    for (char name = 'a'; name < 'e'; ++name) running.push_back(submit(std::string(4, name), 20));
    scheduler_->step();
    scheduler_->step();
    const auto urgent = submit_urgent("urgent", 3, 1);
    scheduler_->step();
    const auto first = urgent->next(Deadline::now());
    ASSERT_TRUE(first) << "its prompt fits into this step";
    EXPECT_THAT(first->tokens, SizeIs(1));
    EXPECT_EQ(scheduler_->stats().paused, 1);
    EXPECT_EQ(scheduler_->stats().running, 4);
    run();
    for (char name = 'a'; name < 'e'; ++name) {
        EXPECT_EQ(done(running[static_cast<std::size_t>(name - 'a')]).text,
                  expected(std::string(4, name), 20));
    }
    EXPECT_EQ(first->text + done(urgent).text, expected("urgent", 3));
    EXPECT_EQ(scheduler_->stats().pauses, 1U);
    EXPECT_EQ(scheduler_->stats().rows, 4U * (4 + 19) + 6 + 2)
        << "the one that gave way computed nothing twice";
    expect_empty();
}

TEST_F(SchedulingTest, a_deadline_displaces_those_who_have_none_of_the_same_priority) {
    make_timed(kOne);
    const auto running = submit("running", 20);
    scheduler_->step();
    const auto same = submit("same", 2);
    const auto pressed = submit_urgent("pressed", 2, 0, in(10));
    const auto low = submit_urgent("low", 2, -1, in(20));
    EXPECT_THAT(order_of_ends({running, same, pressed, low}), ElementsAre(2, 0, 1, 3));
}

TEST_F(SchedulingTest, who_gave_way_is_not_displaced_for_ever) {
    make_timed(kOne);
    step_seconds_ = 1;
    const auto running = submit("running", 40);
    scheduler_->step();
    std::vector<Ref<Request>> urgent;
    for (int i = 0; i < 60; ++i) {
        if (i % 5 == 0) urgent.push_back(submit_urgent("urgent", 5, 1));
        scheduler_->step();
    }
    const std::uint64_t pauses = scheduler_->stats().pauses;
    EXPECT_LE(pauses, 3U) << "after ten seconds of waiting it is as urgent as they are";
    run();
    EXPECT_EQ(done(running).text, expected("running", 40));
    for (const auto& request : urgent) EXPECT_EQ(done(request).text, expected("urgent", 5));
    expect_empty();
}

TEST_F(SchedulingTest, the_least_urgent_pauses_when_the_cache_is_full) {
    make_timed({.max_sequences = 4, .context_length = 64, .cells = 90, .rows_per_step = 16});
    std::vector<Ref<Request>> requests;
    for (char name = 'a'; name < 'e'; ++name) requests.push_back(submit(std::string(4, name), 40));
    const std::vector<std::size_t> order = order_of_ends({requests[0]});
    EXPECT_EQ(scheduler_->stats().running, 0);
    EXPECT_GT(scheduler_->stats().pauses, 0U);
    EXPECT_GT(scheduler_->stats().evictions, 0U);
    expect_empty();
    // finish() has been given out for the first; the others are whole.
    for (std::size_t i = 1; i < requests.size(); ++i) {
        const RequestProgress result = done(requests[i]);
        EXPECT_EQ(result.text, expected(std::string(4, static_cast<char>('a' + i)), 40));
        EXPECT_EQ(result.outcome->reason, FinishReason::kLength);
    }
}

TEST_F(SchedulingTest, the_most_urgent_never_pauses) {
    make_timed({.max_sequences = 4, .context_length = 64, .cells = 70, .rows_per_step = 16});
    std::vector<Ref<Request>> others;
    for (char name = 'a'; name < 'd'; ++name) others.push_back(submit(std::string(4, name), 50));
    const auto urgent = submit_urgent("urgent", 50, 1);
    for (int i = 0; i < 50; ++i) {
        scheduler_->step();
        const auto piece = urgent->next(Deadline::now());
        ASSERT_TRUE(piece) << "in step " << i;
        EXPECT_THAT(piece->tokens, SizeIs(1));
    }
    run();
    for (char name = 'a'; name < 'd'; ++name) {
        EXPECT_EQ(done(others[static_cast<std::size_t>(name - 'a')]).text,
                  expected(std::string(4, name), 50));
    }
    expect_empty();
}

TEST_F(SchedulingTest, models_that_cannot_fork_pause_as_well) {
    make_timed({.max_sequences = 3, .context_length = 64, .cells = 80, .rows_per_step = 16});
    cache_->can_fork = false;
    SchedulerOptions options{.max_sequences = 3, .context_length = 64, .cells = 80, .rows_per_step = 16};
    scheduler_ = std::make_unique<Scheduler>(model_, model_->make_context(cache_, 16), options);
    std::vector<Ref<Request>> requests;
    for (char name = 'a'; name < 'd'; ++name) requests.push_back(submit(std::string(4, name), 40));
    run();
    EXPECT_GT(scheduler_->stats().pauses, 0U);
    for (char name = 'a'; name < 'd'; ++name) {
        EXPECT_EQ(done(requests[static_cast<std::size_t>(name - 'a')]).text,
                  expected(std::string(4, name), 40));
    }
    EXPECT_TRUE(cache_->sequences.empty());
    const auto refused = scheduler_->submit(make_ref<Request>(
        [] {
            RequestOptions prefix = ask("text", 1);
            prefix.purpose = Purpose::kPrefix;
            return prefix;
        }(),
        nullptr));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
}

TEST_F(SchedulingTest, a_step_that_finds_no_room_is_tried_again_with_fewer) {
    make_timed(kFour);
    std::vector<Ref<Request>> requests;
    for (char name = 'a'; name < 'e'; ++name) requests.push_back(submit(std::string(4, name), 10));
    int failures = 0;
    int steps = 0;
    cache_->before_step = [&]() -> Result<void> {
        if (++steps % 3 != 0 || scheduler_->stats().running < 2) return {};
        ++failures;
        return failure(ErrorCode::kFull);
    };
    run();
    EXPECT_GE(failures, 3);
    EXPECT_GT(scheduler_->stats().pauses, 0U);
    for (char name = 'a'; name < 'e'; ++name) {
        EXPECT_EQ(done(requests[static_cast<std::size_t>(name - 'a')]).text,
                  expected(std::string(4, name), 10));
    }
    expect_empty();
}

TEST_F(SchedulingTest, a_running_request_ends_at_its_deadline_with_what_it_has) {
    make_timed(kOne);
    const auto request = submit_urgent("hello", 50, 0, in(0.105));
    run();
    const RequestProgress result = done(request);
    EXPECT_EQ(result.outcome->reason, FinishReason::kDeadline);
    EXPECT_STREQ(to_string(result.outcome->reason), "deadline");
    EXPECT_THAT(result.tokens, SizeIs(10)) << "an eleventh would come after it";
    EXPECT_EQ(result.text, expected("hello", 10));
    expect_empty();
}

TEST_F(SchedulingTest, text_that_might_become_a_stop_string_is_shown_at_the_deadline) {
    make_timed(kOne, [](const std::vector<Token>&) { return Token{'x'}; });
    RequestOptions options = ask("hello", 50);
    options.stops = {"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"};
    options.deadline = in(0.055);
    const auto request = submit(std::move(options));
    run();
    const RequestProgress result = done(request);
    EXPECT_EQ(result.text, "xxxxx");
    EXPECT_EQ(result.outcome->reason, FinishReason::kDeadline);
}

TEST_F(SchedulingTest, a_waiting_request_ends_at_its_deadline) {
    make_timed(kOne);
    const auto running = submit_urgent("running", 40, 1);
    const auto waiting = submit_urgent("waiting", 5, 0, in(0.1));
    for (int i = 0; i < 12; ++i) scheduler_->step();
    const RequestProgress result = done(waiting);
    EXPECT_EQ(result.outcome->reason, FinishReason::kDeadline);
    EXPECT_TRUE(result.tokens.empty());
    EXPECT_EQ(result.outcome->timings.queued, 0);
    run();
    EXPECT_EQ(done(running).text, expected("running", 40));
}

TEST_F(SchedulingTest, a_deadline_that_has_passed_already_computes_nothing) {
    make_timed(kOne);
    const auto request = submit_urgent("hello", 5, 0, in(-1));
    run();
    EXPECT_EQ(done(request).outcome->reason, FinishReason::kDeadline);
    EXPECT_TRUE(cache_->steps.empty());
}

TEST_F(SchedulingTest, a_prompt_that_cannot_be_computed_in_time_is_given_up_early) {
    make_timed({.max_sequences = 2, .context_length = 1000, .cells = 1000, .rows_per_step = 16});
    const auto known = submit(std::string(160, 'k'), 1);  // ten steps: now the cost of a row is known
    run();
    const std::size_t steps = cache_->steps.size();
    const auto hopeless = submit_urgent(std::string(800, 'h'), 5, 0, in(0.2));  // would take half a second
    run();
    EXPECT_EQ(done(hopeless).outcome->reason, FinishReason::kDeadline);
    EXPECT_EQ(cache_->steps.size(), steps) << "nothing of it is computed";
    const auto in_time = submit_urgent(std::string(160, 'i'), 2, 0, in(0.2));
    run();
    EXPECT_EQ(done(in_time).text, expected(std::string(160, 'i'), 2));
}

TEST_F(SchedulingTest, no_step_reaches_beyond_a_deadline) {
    step_seconds_ = 0;
    make_timed({.max_sequences = 2, .context_length = 1000, .cells = 1000, .rows_per_step = 128});
    cache_->while_computing = [](std::span<const BatchRow> rows) {
        pass(0.01 * static_cast<double>(rows.size()));
    };
    submit(std::string(300, 'k'), 1);  // the cost of a row is known now
    run();
    const Clock::time_point start = test_time();
    // A second and a half, but steps have become twice as fast before.
    const auto hopeful = submit_urgent(std::string(150, 'h'), 5, 0, in(1));
    run();
    EXPECT_EQ(done(hopeful).outcome->reason, FinishReason::kDeadline);
    EXPECT_NEAR(seconds_between(start, test_time()), 1, 0.1);
}

TEST_F(SchedulingTest, a_paused_request_ends_at_its_deadline_and_when_it_is_cancelled) {
    make_timed(kOne);
    const auto late = submit_urgent("late", 30, 0, in(0.105));
    scheduler_->step();
    const auto urgent = submit_urgent("urgent", 30, 1);
    scheduler_->step();
    EXPECT_EQ(scheduler_->stats().paused, 1);
    run();
    EXPECT_EQ(done(late).outcome->reason, FinishReason::kDeadline);
    EXPECT_EQ(done(late).tokens.size(), 0U) << "given out by the first look";
    EXPECT_EQ(done(urgent).outcome->reason, FinishReason::kLength);

    const auto given_up = submit("given up", 30);
    scheduler_->step();
    const auto next = submit_urgent("next", 30, 1);
    scheduler_->step();
    EXPECT_EQ(scheduler_->stats().paused, 1);
    given_up->cancel();
    scheduler_->step();
    EXPECT_EQ(done(given_up).outcome->reason, FinishReason::kCancelled);
    EXPECT_EQ(scheduler_->stats().paused, 0);
    run();
    EXPECT_EQ(done(next).text, expected("next", 30));
    expect_empty();
}

TEST_F(SchedulingTest, more_than_may_wait_are_refused) {
    SchedulerOptions options = kOne;
    options.max_waiting = 2;
    make_timed(options);
    std::vector<Ref<Request>> taken;
    for (int i = 0; i < 3; ++i) taken.push_back(submit("abc", 3));
    const auto one_more = make_ref<Request>(ask("abc", 3), nullptr);
    const auto refused = scheduler_->submit(one_more);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kOverloaded);
    EXPECT_THAT(refused.error().message, HasSubstr("3 requests open"));
    while (!taken[0]->finish(Deadline::now())) scheduler_->step();
    EXPECT_TRUE(scheduler_->submit(one_more)) << "one has ended";
    taken[1]->cancel();
    scheduler_->step();
    EXPECT_TRUE(scheduler_->submit(make_ref<Request>(ask("abc", 3), nullptr))) << "another was cancelled";
    run();
    EXPECT_EQ(done(one_more).text, expected("abc", 3));
    expect_empty();
}

constexpr SchedulerOptions kShared{
    .max_sequences = 8, .context_length = 256, .cells = 1024, .rows_per_step = 16};

TEST_F(SchedulingTest, tenants_share_nothing) {
    make_timed(kShared);
    std::vector<Ref<Request>> requests = {
        submit_salted(long_prefix() + "a", "one"), submit_salted(long_prefix() + "b", "one"),
        submit_salted(long_prefix() + "c", "two"), submit_salted(long_prefix() + "d", "")};
    run();
    requests.push_back(submit_salted(long_prefix() + "e", "two"));
    requests.push_back(submit_salted(long_prefix() + "f", "three"));
    run();
    std::vector<int> reused;
    for (std::size_t i = 0; i < requests.size(); ++i) {
        const RequestProgress result = done(requests[i]);
        EXPECT_EQ(result.text, expected(long_prefix() + static_cast<char>('a' + i), 4));
        reused.push_back(result.outcome->reused_tokens);
    }
    EXPECT_THAT(reused, ElementsAre(0, 100, 0, 0, 100, 0));
    expect_empty();
}

TEST_F(SchedulingTest, a_prefix_is_computed_ahead) {
    make_timed(kShared);
    const auto prefix = submit_prefix(long_prefix(), Purpose::kPrefix);
    run();
    const RequestProgress result = done(prefix);
    EXPECT_TRUE(result.tokens.empty());
    EXPECT_EQ(result.outcome->reason, FinishReason::kStop);
    const auto request = submit(long_prefix() + "?", 3);
    run();
    EXPECT_EQ(done(request).outcome->reused_tokens, 100);
    EXPECT_EQ(scheduler_->stats().cell_use.pinned, 0);
}

TEST_F(SchedulingTest, a_pinned_prefix_stays_until_it_is_released) {
    make_timed(kShared);
    const auto prefix = submit_prefix(long_prefix(), Purpose::kPinnedPrefix);
    run();
    EXPECT_EQ(scheduler_->stats().cell_use.pinned, 100);
    for (int i = 0; i < 20; ++i) {
        const std::string other(200, static_cast<char>('A' + i));
        const auto request = submit(other, 50);
        run();
        EXPECT_EQ(done(request).text, expected(other, 50));
    }
    const auto request = submit(long_prefix() + "?", 3);
    run();
    EXPECT_EQ(done(request).outcome->reused_tokens, 100);
    EXPECT_EQ(done(request).outcome->reason, FinishReason::kLength);

    prefix->cancel();
    EXPECT_FALSE(scheduler_->step());
    EXPECT_EQ(scheduler_->stats().cell_use.pinned, 0);
    EXPECT_EQ(done(prefix).outcome->reason, FinishReason::kStop) << "it had ended before";
    for (int i = 0; i < 4; ++i) {
        const auto filling = submit(std::string(200, static_cast<char>('A' + i)), 50);
        run();
        const auto again = submit(std::string(200, static_cast<char>('A' + i)) + "!", 50);
        run();
    }
    const auto later = submit(long_prefix() + "!", 3);
    run();
    EXPECT_EQ(done(later).outcome->reused_tokens, 100) << "it left, and came back";
    EXPECT_GT(cache_->restored, 0);
    expect_empty();
}

TEST_F(SchedulingTest, a_prefix_that_is_there_already_can_be_pinned) {
    make_timed(kShared);
    const auto request = submit(long_prefix() + "and more", 3);
    run();
    const auto prefix = submit_prefix(long_prefix(), Purpose::kPinnedPrefix);
    run();
    EXPECT_EQ(done(prefix).outcome->reused_tokens, 99);
    EXPECT_EQ(scheduler_->stats().cell_use.pinned, 100);
    prefix->cancel();
    run();
    expect_empty();
}

TEST_F(SchedulingTest, what_a_paused_one_has_shared_leaves_after_it) {
    make_timed({.max_sequences = 1, .context_length = 200, .cells = 200, .rows_per_step = 64});
    submit(long_prefix(), 1);
    run();
    const auto paused = submit_urgent(long_prefix() + "and on", 60, 0);
    for (int i = 0; i < 20; ++i) scheduler_->step();
    const auto urgent = submit_urgent(std::string(190, 'u'), 3, 5);
    run();
    EXPECT_EQ(done(urgent).text, expected(std::string(190, 'u'), 3));
    EXPECT_EQ(done(paused).text, expected(long_prefix() + "and on", 60));
    expect_empty();
}

TEST_F(SchedulingTest, what_pins_have_in_common_is_counted_once) {
    make_timed(kShared);
    std::vector<Ref<Request>> pins;
    for (int i = 0; i < 20; ++i) {
        pins.push_back(submit_prefix(long_prefix(), Purpose::kPinnedPrefix));
        run();
        EXPECT_EQ(done(pins.back()).outcome->reason, FinishReason::kStop);
    }
    const auto cells = scheduler_->stats().cell_use;
    EXPECT_GE(cells.pinned, 100);
    EXPECT_LE(cells.pinned, cells.used);
    for (const auto& pin : pins) pin->cancel();
    run();
    expect_empty();
}

TEST_F(SchedulingTest, pins_leave_half_of_the_cache) {
    make_timed({.max_sequences = 2, .context_length = 100, .cells = 200, .rows_per_step = 16});
    const auto a = submit_prefix(std::string(60, 'a'), Purpose::kPinnedPrefix);
    const auto b = submit_prefix(std::string(60, 'b'), Purpose::kPinnedPrefix);
    run();
    EXPECT_TRUE(done(a).outcome);
    const auto refused = b->finish(Deadline::now());
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kOverloaded);
    EXPECT_THAT(refused.error().message, HasSubstr("may hold 100 tokens"));
    const auto request = submit(std::string(90, 'c'), 20);
    run();
    EXPECT_EQ(done(request).tokens.size(), 10U);
}

TEST_F(SchedulingTest, what_pins_leave_no_room_for_ends_overloaded) {
    make_timed({.max_sequences = 2, .context_length = 100, .cells = 100, .rows_per_step = 16});
    const auto pin = submit_prefix(std::string(50, 'p'), Purpose::kPinnedPrefix);
    run();
    const auto too_long = submit(std::string(70, 'x'), 5);
    const auto grows = submit(std::string(30, 'y'), 60);
    const auto fits = submit(std::string(20, 'z'), 10);
    run();
    const auto refused = too_long->finish(Deadline::now());
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kOverloaded);
    EXPECT_THAT(refused.error().message, HasSubstr("50 are pinned"));
    EXPECT_EQ(grows->finish(Deadline::now()).error().code, ErrorCode::kOverloaded);
    EXPECT_EQ(done(fits).text, expected(std::string(20, 'z'), 10));
    pin->cancel();
    const auto fits_now = submit(std::string(70, 'x'), 5);
    run();
    EXPECT_EQ(done(fits_now).text, expected(std::string(70, 'x'), 5));
    expect_empty();
}

TEST_F(SchedulingTest, a_long_prompt_joins_those_who_stream_at_the_measured_pace) {
    make_timed({.max_sequences = 4, .context_length = 4000, .cells = 8000, .rows_per_step = 512});
    double worst = 0;
    cache_->while_computing = [&](std::span<const BatchRow> rows) {
        const double seconds = 0.002 * static_cast<double>(rows.size());
        worst = std::max(worst, seconds);
        pass(seconds);
    };
    const auto streaming = submit("stream", 1000);
    scheduler_->step();
    EXPECT_TRUE(streaming->next(Deadline::now()));
    const auto joining = submit(std::string(3000, 'x'), 1);
    int steps = 0;
    while (!joining->finish(Deadline::now())) {
        ASSERT_LT(++steps, 200);
        scheduler_->step();
    }
    EXPECT_LE(worst, 1.1 * Pace::kTarget);
    EXPECT_LE(steps, 60) << "it takes its time, but not more";
    streaming->cancel();
    worst = 0;
    scheduler_->step();
    const auto alone = submit(std::string(3000, 'y'), 1);
    scheduler_->step();
    EXPECT_GT(worst, 1.0) << "nobody streams: full speed";
    run();
    EXPECT_EQ(done(alone).text, expected(std::string(3000, 'y'), 1));
    const auto whole = submit("whole", 1000);
    scheduler_->step();
    EXPECT_FALSE(whole->finish(Deadline::now()));
    worst = 0;
    const auto beside = submit(std::string(3000, 'z'), 1);
    scheduler_->step();
    EXPECT_GT(worst, 1.0) << "nobody sees the answer grow: full speed";
    run();
    EXPECT_EQ(done(beside).text, expected(std::string(3000, 'z'), 1));
}

TEST_F(SchedulingTest, ten_thousand_random_requests_give_what_each_gives_alone) {
    make_timed({.max_sequences = 6, .context_length = 128, .cells = 200, .rows_per_step = 16});
    step_seconds_ = 0.02;
    std::uint32_t state = 2026;
    const auto draw = [&state](std::uint32_t below) {
        state = state * 1664525 + 1013904223;
        return (state >> 8) % below;
    };
    const auto index = [&draw](std::size_t size) { return draw(static_cast<std::uint32_t>(size)); };
    struct Asked {
        std::string prompt;
        int count;
        Ref<Request> request;
        bool may_be_late;
    };
    std::vector<Asked> asked;
    std::vector<std::string> known = {long_prefix(50)};
    std::vector<Ref<Request>> pins;
    for (int i = 0; i < 10'000; ++i) {
        cache_->tiles.rows = i / 500 % 2 == 0 ? 0 : 6;
        std::string prompt = known[index(known.size())];
        prompt.resize(std::min<std::size_t>(prompt.size(), 1 + draw(70)));
        for (std::uint32_t k = draw(12) + 1; k > 0; --k) prompt += static_cast<char>('a' + draw(3));
        if (known.size() < 30) {
            known.push_back(prompt);
        } else {
            known[draw(30)] = prompt;
        }
        const int count = static_cast<int>(1 + draw(draw(20) == 0 ? 60 : 20));
        RequestOptions options = ask(prompt, count);
        options.priority = static_cast<int>(draw(8)) / 3 - 1;
        if (draw(6) == 0) options.deadline = in(0.02 * draw(200));
        if (draw(4) == 0) options.cache_salt = std::string(1, static_cast<char>('0' + draw(3)));
        const bool may_be_late = !options.deadline.is_never();
        asked.push_back({prompt, count, submit(std::move(options)), may_be_late});
        if (draw(12) == 0)
            asked[asked.size() - 1 - index(std::min<std::size_t>(asked.size(), 50))].request->cancel();
        if (draw(200) == 0) pins.push_back(submit_prefix(prompt, Purpose::kPinnedPrefix));
        if (!pins.empty() && draw(100) == 0) {
            pins.front()->cancel();
            pins.erase(pins.begin());
        }
        if (draw(50) == 0) {
            cache_->before_step = [this, left = draw(3)]() mutable -> Result<void> {
                pass(step_seconds_);
                if (left == 0) return {};
                --left;
                return failure(ErrorCode::kFull);
            };
        }
        for (std::uint32_t k = draw(12); k > 0; --k) scheduler_->step();
        const SchedulerStats stats = scheduler_->stats();
        ASSERT_LE(stats.reserved_cells + stats.kept_cells, 200);
        ASSERT_EQ(cache_->used(), stats.cell_use.used);
        ASSERT_LE(cache_->used(), stats.reserved_cells + stats.kept_cells);
    }
    for (const auto& pin : pins) pin->cancel();
    run();
    int whole_ones = 0;
    int late_ones = 0;
    int overloaded = 0;
    for (const Asked& one : asked) {
        const auto result = one.request->finish(Deadline::now());
        if (!result) {
            EXPECT_EQ(result.error().code, ErrorCode::kOverloaded);
            ++overloaded;
            continue;
        }
        const std::string whole = expected(one.prompt, one.count);
        switch (result->outcome->reason) {
            case FinishReason::kDeadline:
                EXPECT_TRUE(one.may_be_late);
                ++late_ones;
                [[fallthrough]];
            case FinishReason::kCancelled: EXPECT_TRUE(whole.starts_with(result->text)); break;
            default: EXPECT_EQ(result->text, whole); ++whole_ones;
        }
    }
    EXPECT_GT(whole_ones, 7000);
    EXPECT_GT(late_ones, 50);
    EXPECT_LT(overloaded, 500) << "only what pins or the failing steps left no room for";
    EXPECT_GT(scheduler_->stats().pauses, 100U);
    EXPECT_GT(scheduler_->stats().evictions, 1000U);
    EXPECT_GT(scheduler_->stats().reused_tokens, 10'000U);
    expect_empty();
}

}  // namespace
}  // namespace syncyte
