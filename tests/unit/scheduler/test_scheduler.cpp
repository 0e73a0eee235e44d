#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <tuple>

#include "scheduler_test.h"

namespace syncyte {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr SchedulerOptions kSmall{.max_sequences = 4, .context_length = 64, .cells = 256, .rows_per_step = 8};

TEST_F(SchedulerTest, one_request_generates_what_the_model_says) {
    make(kSmall);
    EXPECT_FALSE(scheduler_->step());
    const auto request = submit("hello", 10);
    run();
    const RequestProgress result = done(request);
    EXPECT_EQ(result.text, expected("hello", 10));
    EXPECT_THAT(result.tokens, SizeIs(10));
    ASSERT_TRUE(result.outcome);
    EXPECT_EQ(result.outcome->reason, FinishReason::kLength);
    EXPECT_GE(result.outcome->timings.total, result.outcome->timings.first_token);
    expect_empty();
}

TEST_F(SchedulerTest, requests_share_steps_and_do_not_see_each_other) {
    make(kSmall);
    const auto a = submit("first", 20);
    const auto b = submit("the second prompt", 20);
    const auto c = submit("3", 20);
    run();
    EXPECT_EQ(done(a).text, expected("first", 20));
    EXPECT_EQ(done(b).text, expected("the second prompt", 20));
    EXPECT_EQ(done(c).text, expected("3", 20));
    EXPECT_LT(cache_->steps.size(), 30U) << "they were not computed together";
    expect_empty();
}

TEST_F(SchedulerTest, long_prompts_are_prefilled_in_chunks_beside_those_who_decode) {
    make(kSmall);
    const auto streaming = submit("ab", 40);
    scheduler_->step();
    const auto joining = submit(std::string(40, 'x'), 2);
    ASSERT_TRUE(streaming->next(Deadline::now()));
    // 40 tokens at 7 a step, and the one who decodes advances in every one of them.
    for (int i = 0; i < 6; ++i) {
        EXPECT_FALSE(joining->next(Deadline::now())) << "in step " << i;
        scheduler_->step();
        const auto piece = streaming->next(Deadline::now());
        ASSERT_TRUE(piece);
        EXPECT_THAT(piece->tokens, SizeIs(1));
        EXPECT_LE(cache_->steps.back().size(), 8U);
    }
    run();
    EXPECT_EQ(done(joining).text, expected(std::string(40, 'x'), 2));
}

TEST_F(SchedulerTest, first_come_first_served) {
    make({.max_sequences = 1, .context_length = 64, .cells = 64, .rows_per_step = 8});
    std::vector<Ref<Request>> requests;
    for (int i = 0; i < 5; ++i) requests.push_back(submit(std::string(1, static_cast<char>('a' + i)), 3));
    std::size_t finished = 0;
    for (int i = 0; i < 100 && scheduler_->step(); ++i) {
        while (finished < requests.size() && requests[finished]->finish(Deadline::now())) ++finished;
        for (std::size_t k = finished + 1; k < requests.size(); ++k) {
            EXPECT_FALSE(requests[k]->next(Deadline::now())) << "one overtook another";
        }
    }
    EXPECT_EQ(finished, requests.size());
    expect_empty();
}

TEST_F(SchedulerTest, a_request_waits_until_the_cache_has_room_for_its_prompt_and_some_more) {
    make({.max_sequences = 4, .context_length = 32, .cells = 36, .rows_per_step = 16});
    const auto a = submit("0123456789", 20);  // 10 cells now, 29 in the end
    const auto b = submit("0123456789", 3);   // 12
    const auto c = submit("01", 2);           // would fit, but waits behind b
    scheduler_->step();
    EXPECT_EQ(scheduler_->stats().running, 1);
    EXPECT_EQ(scheduler_->stats().waiting, 2);
    EXPECT_EQ(scheduler_->stats().reserved_cells, 10);
    run();
    EXPECT_EQ(done(a).text, expected("0123456789", 20));
    EXPECT_EQ(done(b).text, expected("0123456789", 3));
    EXPECT_EQ(done(c).text, expected("01", 2));
    expect_empty();
}

TEST_F(SchedulerTest, the_end_of_the_context_ends_with_length) {
    make({.max_sequences = 2, .context_length = 16, .cells = 16, .rows_per_step = 8});
    const auto request = submit("0123456789", 1'000'000);
    run();
    const RequestProgress result = done(request);
    EXPECT_EQ(result.text, expected("0123456789", 16 - 10));
    EXPECT_EQ(result.outcome->reason, FinishReason::kLength);
}

TEST_F(SchedulerTest, prompts_that_cannot_fit_are_refused_with_both_lengths) {
    make(kSmall);
    EXPECT_TRUE(scheduler_->check_prompt(63));
    const auto refused = scheduler_->check_prompt(64);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(refused.error().message, HasSubstr("64 tokens, the context 64"));
    EXPECT_FALSE(scheduler_->check_prompt(0));
}

TEST_F(SchedulerTest, the_end_token_stops_and_is_not_shown) {
    const FakeNext ends = [](const std::vector<Token>& s) {
        return s.size() < 8 ? hashed_letter(s) : kFakeEnd;
    };
    make(kSmall, ends);
    const auto request = submit("hello", 20);
    run();
    const RequestProgress result = done(request);
    EXPECT_EQ(result.text, expected("hello", 20, ends));
    EXPECT_THAT(result.tokens, SizeIs(3));
    EXPECT_EQ(result.outcome->reason, FinishReason::kStop);
    expect_empty();
}

TEST_F(SchedulerTest, ignore_eos_goes_on) {
    make(kSmall, [](const std::vector<Token>&) { return kFakeEnd; });
    RequestOptions options = ask("hello", 5);
    options.ignore_eos = IgnoreEos::kYes;
    const auto request = submit(std::move(options));
    run();
    EXPECT_THAT(done(request).tokens, SizeIs(5));
}

TEST_F(SchedulerTest, stop_strings_end_the_text_before_them) {
    const std::string said = "one two END three";
    make(kSmall, [&](const std::vector<Token>& s) { return tokens_of(said)[s.size() - 1]; });
    RequestOptions options = ask("x", 15);
    options.stops = {"never", "END"};
    const auto request = submit(std::move(options));
    run();
    const RequestProgress result = done(request);
    EXPECT_EQ(result.text, "one two ");
    EXPECT_EQ(result.outcome->reason, FinishReason::kStop);
    EXPECT_THAT(result.tokens, SizeIs(11));
    expect_empty();
}

TEST_F(SchedulerTest, cancelling_a_running_request_frees_its_place_within_one_step) {
    make(kSmall);
    const auto request = submit("hello", 50);
    scheduler_->step();
    scheduler_->step();
    request->cancel();
    scheduler_->step();
    const RequestProgress result = done(request);
    EXPECT_EQ(result.outcome->reason, FinishReason::kCancelled);
    EXPECT_EQ(result.text, expected("hello", 2));
    expect_empty();
}

TEST_F(SchedulerTest, cancelling_while_the_prompt_is_prefilled) {
    make(kSmall);
    const auto request = submit(std::string(30, 'x'), 5);
    scheduler_->step();
    request->cancel();
    scheduler_->step();
    EXPECT_EQ(done(request).outcome->reason, FinishReason::kCancelled);
    expect_empty();
}

TEST_F(SchedulerTest, cancelling_a_waiting_request) {
    make({.max_sequences = 1, .context_length = 64, .cells = 64, .rows_per_step = 8});
    const auto running = submit("a", 10);
    const auto waiting = submit("b", 10);
    scheduler_->step();
    waiting->cancel();
    scheduler_->step();
    EXPECT_EQ(done(waiting).outcome->reason, FinishReason::kCancelled);
    run();
    EXPECT_EQ(done(running).text, expected("a", 10));
}

TEST_F(SchedulerTest, cancelling_before_the_first_step) {
    make(kSmall);
    const auto request = submit("a", 10);
    request->cancel();
    run();
    EXPECT_EQ(done(request).outcome->reason, FinishReason::kCancelled);
    EXPECT_TRUE(cache_->steps.empty());
}

TEST_F(SchedulerTest, a_failed_step_fails_everything_now_and_later) {
    make({.max_sequences = 1, .context_length = 64, .cells = 64, .rows_per_step = 8});
    const auto running = submit("a", 10);
    const auto waiting = submit("b", 10);
    scheduler_->step();
    cache_->before_step = [] { return failure(ErrorCode::kModel, "broken"); };
    EXPECT_FALSE(scheduler_->step());
    const auto late = submit("c", 10);
    for (const auto& request : {running, waiting, late}) {
        const auto result = request->finish(Deadline::now());
        ASSERT_FALSE(result);
        EXPECT_EQ(result.error().code, ErrorCode::kModel);
        EXPECT_EQ(result.error().message, "broken");
    }
    expect_empty();
}

TEST_F(SchedulerTest, an_interrupted_step_closes_everything) {
    make(kSmall);
    const auto request = submit("a", 10);
    scheduler_->step();
    scheduler_->interrupt();
    EXPECT_FALSE(scheduler_->step());
    const auto result = request->finish(Deadline::now());
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, ErrorCode::kClosed);
}

TEST_F(SchedulerTest, a_cache_with_less_room_than_the_accounts_say_ends_what_it_cannot_hold) {
    make(kSmall);
    cache_->cells = 10;
    const auto small = submit("abc", 4);
    const auto large = submit("hello", 10);
    run();
    EXPECT_EQ(done(small).text, expected("abc", 4));
    const auto failed = large->finish(Deadline::now());
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, ErrorCode::kOverloaded);
    expect_empty();
}

TEST_F(SchedulerTest, a_token_without_a_piece_fails_that_request_only) {
    make(kSmall, [](const std::vector<Token>& s) { return s[0] == 'b' ? kFakeBroken : hashed_letter(s); });
    const auto good = submit("a", 5);
    const auto bad = submit("b", 5);
    run();
    EXPECT_EQ(done(good).text, expected("a", 5));
    EXPECT_FALSE(bad->finish(Deadline::now()));
    expect_empty();
}

TEST_F(SchedulerTest, a_scheduler_that_goes_closes_what_it_holds) {
    make(kSmall);
    const auto running = submit("a", 10);
    scheduler_->step();
    const auto unseen = submit("b", 10);
    scheduler_.reset();
    EXPECT_EQ(running->finish(Deadline::now()).error().code, ErrorCode::kClosed);
    EXPECT_EQ(unseen->finish(Deadline::now()).error().code, ErrorCode::kClosed);
}

TEST_F(SchedulerTest, thousands_of_random_requests_give_what_each_gives_alone) {
    make({.max_sequences = 6, .context_length = 64, .cells = 150, .rows_per_step = 16});
    struct Asked {
        std::string prompt;
        int count;
        Ref<Request> request;
    };
    std::vector<Asked> asked;
    std::uint32_t state = 12345;
    const auto draw = [&state](std::uint32_t below) {
        state = state * 1664525 + 1013904223;
        return (state >> 8) % below;
    };
    for (int i = 0; i < 3000; ++i) {
        std::string prompt(1 + draw(40), 'a');
        for (char& letter : prompt) letter = static_cast<char>('a' + draw(26));
        const int count = static_cast<int>(1 + draw(20));
        asked.push_back({prompt, count, submit(prompt, count)});
        if (draw(10) == 0) asked[draw(static_cast<std::uint32_t>(asked.size()))].request->cancel();
        for (std::uint32_t k = draw(4); k > 0; --k) scheduler_->step();
        const SchedulerStats stats = scheduler_->stats();
        ASSERT_LE(stats.reserved_cells + stats.kept_cells, 150);
        ASSERT_EQ(cache_->used(), stats.cell_use.used);
        ASSERT_LE(cache_->used(), stats.reserved_cells + stats.kept_cells);
    }
    run();
    int finished = 0;
    for (const Asked& one : asked) {
        const RequestProgress result = done(one.request);
        const std::string whole = expected(one.prompt, one.count);
        if (result.outcome->reason == FinishReason::kCancelled) {
            EXPECT_TRUE(whole.starts_with(result.text));
        } else {
            EXPECT_EQ(result.text, whole);
            ++finished;
        }
    }
    EXPECT_GT(finished, 2000);
    expect_empty();
}

constexpr SchedulerOptions kShared{
    .max_sequences = 8, .context_length = 256, .cells = 1024, .rows_per_step = 16};

TEST_F(SchedulerTest, a_prefix_that_was_computed_is_reused) {
    make(kShared);
    const auto first = submit(long_prefix() + "one", 5);
    run();
    const std::uint64_t rows = scheduler_->stats().rows;
    const auto second = submit(long_prefix() + "two", 5);
    run();
    EXPECT_EQ(done(first).text, expected(long_prefix() + "one", 5));
    const RequestProgress result = done(second);
    EXPECT_EQ(result.text, expected(long_prefix() + "two", 5));
    EXPECT_EQ(result.outcome->reused_tokens, 100);
    EXPECT_EQ(scheduler_->stats().rows - rows, 3U + 4U);
    expect_empty();
}

TEST_F(SchedulerTest, a_conversation_goes_on_where_it_was) {
    make(kShared);
    std::string said = long_prefix(40);
    std::size_t computed = 0;
    for (int turn = 0; turn < 4; ++turn) {
        const auto request = submit(said, 20);
        run();
        const RequestProgress result = done(request);
        EXPECT_EQ(result.text, expected(said, 20));
        EXPECT_EQ(static_cast<std::size_t>(result.outcome->reused_tokens), computed) << "turn " << turn;
        computed = said.size() + 19;  // the last generated token was never computed
        said += result.text + "and";
    }
    expect_empty();
}

TEST_F(SchedulerTest, those_who_arrive_together_compute_their_common_prefix_once) {
    make(kShared);
    std::vector<Ref<Request>> requests;
    for (int i = 0; i < 8; ++i) requests.push_back(submit(long_prefix() + std::to_string(i) + "?", 4));
    run();
    for (int i = 0; i < 8; ++i) {
        EXPECT_EQ(done(requests[static_cast<std::size_t>(i)]).text,
                  expected(long_prefix() + std::to_string(i) + "?", 4));
    }
    EXPECT_EQ(scheduler_->stats().reused_tokens, 700U);
    EXPECT_EQ(scheduler_->stats().rows, 100U + 8 * (2 + 3));
    expect_empty();
}

TEST_F(SchedulerTest, who_waited_for_a_prefix_goes_on_when_its_computer_is_cancelled) {
    make(kShared);
    const auto first = submit(long_prefix() + "one", 5);
    const auto second = submit(long_prefix() + "two", 5);
    scheduler_->step();
    scheduler_->step();
    EXPECT_EQ(scheduler_->stats().running, 1);
    first->cancel();
    run();
    const RequestProgress result = done(second);
    EXPECT_EQ(result.text, expected(long_prefix() + "two", 5));
    EXPECT_EQ(result.outcome->reused_tokens, 32);
    expect_empty();
}

TEST_F(SchedulerTest, short_common_beginnings_are_not_shared) {
    make(kShared);
    const auto first = submit(long_prefix(10) + "one", 5);
    run();
    const auto second = submit(long_prefix(10) + "two", 5);
    run();
    EXPECT_EQ(done(first).outcome->reused_tokens, 0);
    EXPECT_EQ(done(second).outcome->reused_tokens, 0);
}

TEST_F(SchedulerTest, what_is_kept_makes_room) {
    make({.max_sequences = 2, .context_length = 128, .cells = 128, .rows_per_step = 16});
    const auto first = submit(long_prefix(60) + "one", 5);
    const auto second = submit(long_prefix(60) + "two", 5);
    run();
    EXPECT_EQ(done(first).outcome->reused_tokens, 0);
    EXPECT_EQ(done(second).outcome->reused_tokens, 60);
    EXPECT_GT(scheduler_->stats().kept_cells, 60);
    const auto other = submit(std::string(100, 'z'), 28);
    run();
    EXPECT_EQ(done(other).text, expected(std::string(100, 'z'), 28));
    EXPECT_EQ(done(other).outcome->reason, FinishReason::kLength);
    expect_empty();
}

TEST_F(SchedulerTest, what_nobody_has_asked_for_twice_is_kept_in_a_part_of_the_cache_only) {
    make(kShared);
    for (int i = 0; i < 20; ++i) {
        const auto request = submit(std::string(60, static_cast<char>('a' + i)), 2);
        run();
        EXPECT_EQ(done(request).outcome->reused_tokens, 0);
        EXPECT_LE(scheduler_->stats().kept_cells, kShared.cells / 4);
    }
    EXPECT_GT(scheduler_->stats().parked_tokens, 0U) << "the rest is saved outside it";
    EXPECT_LE(scheduler_->stats().parked_tokens, static_cast<std::uint64_t>(kShared.cells));
    expect_empty();
}

TEST_F(SchedulerTest, kept_parts_that_nobody_needs_give_way) {
    make({.max_sequences = 2, .context_length = 250, .cells = 256, .rows_per_step = 16});
    const auto first = submit(long_prefix(40), 20);
    run();
    EXPECT_EQ(done(first).tokens.size(), 20U);
    EXPECT_EQ(scheduler_->stats().parked_tokens, 59U);  // it comes back whole
    const auto second =
        submit(long_prefix(30) + "#", 219);  // 249 tokens fit when the other's rest is cut off
    run();
    EXPECT_EQ(done(second).text, expected(long_prefix(30) + "#", 219));
    EXPECT_EQ(done(second).outcome->reused_tokens, 30);
    expect_empty();
}

TEST_F(SchedulerTest, nothing_is_shared_or_kept_where_a_model_cannot_fork) {
    model_ = std::make_shared<FakeModel>();
    cache_ = std::make_shared<FakeCache>();
    cache_->cells = kShared.cells;
    cache_->can_fork = false;
    scheduler_ =
        std::make_unique<Scheduler>(model_, model_->make_context(cache_, kShared.rows_per_step), kShared);
    const auto first = submit(long_prefix() + "one", 5);
    const auto second = submit(long_prefix() + "two", 5);
    run();
    EXPECT_EQ(done(first).text, expected(long_prefix() + "one", 5));
    EXPECT_EQ(done(second).text, expected(long_prefix() + "two", 5));
    EXPECT_EQ(scheduler_->stats().reused_tokens, 0U);
    EXPECT_TRUE(cache_->sequences.empty());
}

TEST_F(SchedulerTest, who_decodes_beside_others_has_its_cells_moved_together) {
    make({.max_sequences = 3, .context_length = 200, .cells = 600, .rows_per_step = 32});
    const Ref<Request> alone = submit("alone", 100);
    run();
    EXPECT_EQ(cache_->gathered, 0);
    const Ref<Request> one = submit("the first", 100);
    const Ref<Request> two = submit("the second", 90);
    run();
    EXPECT_EQ(cache_->gathered, 4);  // twice each; in the end the first was alone again
    EXPECT_EQ(done(alone).text, expected("alone", 100));
    EXPECT_EQ(done(one).text, expected("the first", 100));
    EXPECT_EQ(done(two).text, expected("the second", 90));
    expect_empty();
}

TEST_F(SchedulerTest, shared_cells_are_not_moved) {
    make({.max_sequences = 3, .context_length = 200, .cells = 600, .rows_per_step = 32});
    const Ref<Request> one = submit("the first", 100);
    const Ref<Request> other = submit("something else", 100);
    for (int i = 0; i < 30; ++i) scheduler_->step();
    const std::string begun = "the first" + expected("the first", 28);
    const Ref<Request> next = submit(begun + "!", 60);
    run();
    const RequestProgress branch = done(next);
    EXPECT_GT(branch.outcome->reused_tokens, 30);
    EXPECT_EQ(branch.text, expected(begun + "!", 60));
    EXPECT_GT(cache_->gathered, 0);
    EXPECT_EQ(done(one).text, expected("the first", 100));
    EXPECT_EQ(done(other).text, expected("something else", 100));
    expect_empty();
}

TEST_F(SchedulerTest, random_families_of_prompts_give_what_each_gives_alone) {
    make({.max_sequences = 5, .context_length = 128, .cells = 300, .rows_per_step = 16});
    std::uint32_t state = 99;
    const auto draw = [&state](std::uint32_t below) {
        state = state * 1664525 + 1013904223;
        return (state >> 8) % below;
    };
    std::vector<std::string> known = {long_prefix(50)};
    std::vector<std::tuple<std::string, int, Ref<Request>>> asked;
    for (int i = 0; i < 3000; ++i) {
        cache_->tiles.rows = i / 500 % 2 == 0 ? 0 : 6;
        std::string prompt = known[draw(static_cast<std::uint32_t>(known.size()))];
        prompt.resize(std::min<std::size_t>(prompt.size(), 1 + draw(90)));
        for (std::uint32_t k = draw(12) + 1; k > 0; --k) prompt += static_cast<char>('a' + draw(3));
        if (known.size() < 40) {
            known.push_back(prompt);
        } else {
            known[draw(40)] = prompt;
        }
        const int count = static_cast<int>(1 + draw(25));
        asked.emplace_back(prompt, count, submit(prompt, count));
        if (draw(8) == 0) std::get<2>(asked[draw(static_cast<std::uint32_t>(asked.size()))])->cancel();
        for (std::uint32_t k = draw(5); k > 0; --k) scheduler_->step();
        const SchedulerStats stats = scheduler_->stats();
        ASSERT_LE(stats.reserved_cells + stats.kept_cells, 300);
        ASSERT_EQ(cache_->used(), stats.cell_use.used);
        ASSERT_LE(cache_->used(), stats.reserved_cells + stats.kept_cells);
    }
    run();
    for (const auto& [prompt, count, request] : asked) {
        const RequestProgress result = done(request);
        const std::string whole = expected(prompt, count);
        if (result.outcome->reason == FinishReason::kCancelled) {
            EXPECT_TRUE(whole.starts_with(result.text));
        } else {
            EXPECT_EQ(result.text, whole);
        }
    }
    EXPECT_GT(scheduler_->stats().reused_tokens, 10'000U);
    expect_empty();
}

}  // namespace
}  // namespace syncyte
