// Texts that leave the cache, saved, and those who begin with them later.
#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "scheduling_test.h"

namespace syncyte {
namespace {

class ParkingTest : public SchedulingTest {
  protected:
    static constexpr SchedulerOptions kOptions{
        .max_sequences = 2, .context_length = 512, .cells = 1024, .rows_per_step = 64};

    // How many tokens of the prompt were not computed.
    std::int32_t ask_again(const std::string& prompt, int count = 4) {
        const Ref<Request> request = submit(prompt, count);
        run();
        const RequestProgress found = done(request);
        EXPECT_EQ(found.text, expected(prompt, count));
        return found.outcome ? found.outcome->reused_tokens : -1;
    }
};

TEST_F(ParkingTest, a_long_prompt_asked_again_comes_back) {
    make(kOptions);
    const std::string prompt = long_prefix(400);
    EXPECT_EQ(ask_again(prompt), 0);
    EXPECT_EQ(scheduler_->stats().kept_cells, 0);
    EXPECT_EQ(scheduler_->stats().parked_tokens, 403U);
    EXPECT_EQ(ask_again(prompt), 399);
    EXPECT_EQ(cache_->restored, 1);
    EXPECT_EQ(ask_again(prompt + "and more"), 400);
    EXPECT_EQ(cache_->restored, 1);  // it is in the cache
    expect_empty();
}

TEST_F(ParkingTest, many_long_histories_come_back_in_turn) {
    make(kOptions);
    std::vector<std::string> texts;
    for (char name = 'a'; name < 'd'; ++name) texts.push_back(std::string(1, name) + long_prefix(300));
    for (int turn = 0; turn < 4; ++turn) {
        for (std::string& text : texts) {
            text += "said" + std::string(20, static_cast<char>('a' + turn));
            const std::int32_t reused = ask_again(text);
            EXPECT_GE(reused, turn > 0 ? 300 : 0);
        }
    }
    EXPECT_LE(scheduler_->stats().parked_tokens, 1024U);
    expect_empty();
}

TEST_F(ParkingTest, beside_one_that_runs_alone_nothing_leaves) {
    make(kOptions);
    const Ref<Request> busy = submit("busy", 100);
    const Ref<Request> first = submit(long_prefix(100), 4);
    for (int i = 0; i < 60; ++i) scheduler_->step();
    EXPECT_EQ(scheduler_->stats().running, 1);
    EXPECT_EQ(scheduler_->stats().kept_cells, 103);
    EXPECT_TRUE(cache_->saved.empty());
    run();
    EXPECT_EQ(cache_->saved.size(), 2U) << "nobody runs: all leave";
    EXPECT_EQ(scheduler_->stats().kept_cells, 0);
    EXPECT_EQ(done(busy).text, expected("busy", 100));
    EXPECT_EQ(done(first).text, expected(long_prefix(100), 4));
}

TEST_F(ParkingTest, what_cannot_come_back_is_computed_anew) {
    make(kOptions);
    const std::string prompt = long_prefix(400);
    ask_again(prompt);
    cache_->can_restore = false;
    EXPECT_EQ(ask_again(prompt), 0);
    EXPECT_EQ(cache_->restored, 0);
    cache_->can_restore = true;
    EXPECT_EQ(ask_again(prompt), 399);
    expect_empty();
}

TEST_F(ParkingTest, short_ends_of_what_stays_are_not_parked) {
    make(kOptions);
    const auto prefix = submit_prefix(long_prefix(200), Purpose::kPinnedPrefix);
    run();
    for (char name = 'a'; name < 'p'; ++name) {
        EXPECT_EQ(ask_again(long_prefix(200) + std::string(60, name)), 200);
    }
    EXPECT_TRUE(cache_->saved.empty());
    prefix->cancel();
    run();
    expect_empty();
}

TEST_F(ParkingTest, what_ended_lingers_for_some_steps) {
    SchedulerOptions options = kOptions;
    options.max_sequences = 3;
    make(options);
    const Ref<Request> busy = submit("busy", 100);
    const Ref<Request> other = submit("other", 100);
    const std::string prompt = long_prefix(100);
    const Ref<Request> first = submit(prompt, 4);
    while (!first->finish(Deadline::now())) scheduler_->step();
    for (int i = 0; i < 4; ++i) scheduler_->step();
    EXPECT_TRUE(cache_->saved.empty());
    for (int i = 0; i < 8; ++i) scheduler_->step();
    EXPECT_EQ(cache_->saved.size(), 1U);
    EXPECT_EQ(scheduler_->stats().kept_cells, 0);
    EXPECT_EQ(ask_again(prompt), 99);
    EXPECT_EQ(done(busy).text, expected("busy", 100));
    EXPECT_EQ(done(other).text, expected("other", 100));
    expect_empty();
}

TEST_F(ParkingTest, a_conversation_that_rests_leaves_the_others_the_cache) {
    SchedulerOptions options = kOptions;
    options.max_sequences = 3;
    make(options);
    std::string talk = long_prefix(60);
    for (int turn = 0; turn < 3; ++turn) {
        const Ref<Request> request = submit(talk, 10);
        run();
        talk += done(request).text + "and " + std::string(30, static_cast<char>('a' + turn));
    }
    const Ref<Request> busy = submit("busy", 200);
    const Ref<Request> other = submit("other", 200);
    const Ref<Request> turn = submit(talk, 10);
    while (!turn->finish(Deadline::now())) scheduler_->step();
    EXPECT_GT(scheduler_->stats().kept_cells, 0) << "for who goes on at once";
    for (int i = 0; i < 20; ++i) scheduler_->step();
    EXPECT_EQ(scheduler_->stats().kept_cells, 0);
    const std::string next = talk + expected(talk, 10) + "!";
    EXPECT_EQ(ask_again(next), static_cast<std::int32_t>(talk.size()) + 9);
    EXPECT_EQ(done(busy).text, expected("busy", 200));
    EXPECT_EQ(done(other).text, expected("other", 200));
    expect_empty();
}

TEST_F(ParkingTest, a_conversation_that_another_began_with_comes_back) {
    SchedulerOptions options = kOptions;
    options.max_sequences = 4;
    make(options);
    const Ref<Request> busy = submit("busy", 300);
    const Ref<Request> other = submit("other", 300);
    const std::string common = long_prefix(150);
    const std::string first = common + std::string(150, 'x');
    const std::string second = common + std::string(20, 'y');
    for (const std::string& prompt : {first, second}) {
        const Ref<Request> request = submit(prompt, 10);
        while (!request->finish(Deadline::now())) scheduler_->step();
    }
    for (int i = 0; i < 20; ++i) scheduler_->step();
    const std::string next = first + expected(first, 10) + "!";
    const Ref<Request> again = submit(next, 4);
    run();
    EXPECT_EQ(done(again).outcome->reused_tokens, 309);
    EXPECT_EQ(done(busy).text, expected("busy", 300));
    expect_empty();
}

TEST_F(ParkingTest, what_several_began_with_stays) {
    make(kOptions);
    const std::string common = long_prefix(100);
    for (char name = 'a'; name < 'd'; ++name) ask_again(common + std::string(20, name));
    EXPECT_GT(scheduler_->stats().kept_cells, 100);
    EXPECT_EQ(ask_again(common + "#"), 100);
    EXPECT_LE(cache_->restored, 1);
    expect_empty();
}

TEST_F(ParkingTest, what_is_in_the_way_of_a_long_answer_leaves_and_the_answer_moves_to_its_place) {
    make(kOptions);
    const std::string history = long_prefix(300) + "!";
    for (int turn = 0; turn < 2; ++turn) ask_again(history);
    const std::int32_t kept = scheduler_->stats().kept_cells;
    const std::size_t saved = cache_->saved.size();
    EXPECT_GE(kept, 300);
    const Ref<Request> lone = submit("lone", 100);
    for (int i = 0; i < 35; ++i) scheduler_->step();
    EXPECT_EQ(scheduler_->stats().kept_cells, kept) << "who comes back at once finds it";
    EXPECT_EQ(cache_->saved.size(), saved);
    for (int i = 0; i < 15; ++i) scheduler_->step();
    EXPECT_EQ(scheduler_->stats().kept_cells, 0);
    EXPECT_EQ(cache_->saved.size(), saved + 1);
    EXPECT_EQ(cache_->gathered, 1);
    run();
    EXPECT_EQ(done(lone).text, expected("lone", 100));
    EXPECT_EQ(cache_->gathered, 1);
    const int restored = cache_->restored;
    EXPECT_EQ(ask_again(history), 300);
    EXPECT_EQ(cache_->restored, restored + 1);
    expect_empty();
}

TEST_F(ParkingTest, several_in_the_way_are_saved_one_a_step_and_leave_together) {
    SchedulerOptions options = kOptions;
    options.cells = 2048;
    options.max_sequences = 4;
    make(options);
    for (const char name : {'a', 'b'}) {
        const std::string talk = std::string(1, name) + long_prefix(200);
        for (int turn = 0; turn < 2; ++turn) ask_again(talk);
    }
    const std::int32_t kept = scheduler_->stats().kept_cells;
    EXPECT_GE(kept, 2 * 201);
    const std::size_t before = cache_->saved.size();
    const Ref<Request> lone = submit("lone", 100);
    for (std::size_t saved = before; scheduler_->stats().kept_cells > 0; saved = cache_->saved.size()) {
        ASSERT_FALSE(lone->finish(Deadline::now()));
        EXPECT_EQ(scheduler_->stats().kept_cells, kept);
        scheduler_->step();
        EXPECT_LE(cache_->saved.size(), saved + 1);
    }
    EXPECT_EQ(cache_->saved.size(), before + 2);
    run();
    EXPECT_EQ(done(lone).text, expected("lone", 100));
    expect_empty();
}

TEST_F(ParkingTest, what_stays_behind_moves_to_the_front_when_it_goes_on_alone) {
    make(kOptions);
    const std::string other = "a" + long_prefix(400);
    for (int turn = 0; turn < 2; ++turn) ask_again(other);
    std::string talk = "b" + long_prefix(200);
    for (int turn = 0; turn < 4; ++turn) {
        const Ref<Request> request = submit(talk, 20);
        run();
        talk += done(request).text + "and ";
    }
    EXPECT_EQ(scheduler_->stats().parked_tokens, 404U) << "the other one, in the way of the turns";
    EXPECT_EQ(cache_->gathered, 1);
    EXPECT_GT(scheduler_->stats().kept_cells, 200);
    expect_empty();
}

TEST_F(ParkingTest, nothing_leaves_for_good_for_being_in_the_way) {
    make(kOptions);
    for (char name = 'a'; name < 'c'; ++name) ask_again(std::string(1, name) + long_prefix(300));
    const std::string history = long_prefix(280);
    for (int turn = 0; turn < 2; ++turn) ask_again(history);
    ask_again("c" + long_prefix(300));
    EXPECT_GT(scheduler_->stats().parked_tokens, 1024U - 280) << "there is no room for another";
    const Ref<Request> lone = submit("lone", 100);
    run();
    EXPECT_EQ(done(lone).text, expected("lone", 100));
    EXPECT_GE(scheduler_->stats().kept_cells, 280);
    expect_empty();
}

TEST_F(ParkingTest, what_shares_a_system_prompt_leaves_it_there) {
    SchedulerOptions options = kOptions;
    options.cells = 2048;
    options.max_sequences = 5;
    make(options);
    const std::string system = long_prefix(100);
    std::vector<std::string> texts;
    for (char name = 'a'; name < 'd'; ++name) {
        texts.push_back(system + std::string(1, name) + long_prefix(199));
        ask_again(texts.back());
        EXPECT_EQ(ask_again(texts.back()), 299);
    }
    const std::string mine = system + "mine";
    const Ref<Request> lone = submit(mine, 150);
    run();
    const RequestProgress progress = done(lone);
    EXPECT_EQ(progress.text, expected(mine, 150));
    EXPECT_EQ(progress.outcome->reused_tokens, 100);
    EXPECT_GE(cache_->gathered, 1);
    EXPECT_LE(scheduler_->stats().kept_cells, 100 + 160) << "the system prompt and the answer";
    EXPECT_EQ(cache_->used(), scheduler_->stats().kept_cells);
    EXPECT_LE(scheduler_->stats().parked_tokens, 3U * 210 + 100);
    const int restored = cache_->restored;
    for (const std::string& text : texts) EXPECT_EQ(ask_again(text), 299);
    EXPECT_GE(cache_->restored, restored + 3);
    EXPECT_LE(scheduler_->stats().kept_cells, 100 + 3 * 210 + 160) << "the system prompt is there once";
    EXPECT_EQ(cache_->used(), scheduler_->stats().kept_cells);
    expect_empty();
}

TEST_F(ParkingTest, parts_come_back_when_their_beginning_had_left_too) {
    SchedulerOptions options = kOptions;
    options.context_length = 1024;
    options.max_sequences = 4;
    make(options);
    const std::string system = long_prefix(100);
    std::vector<std::string> texts;
    for (const char name : {'a', 'b'}) {
        texts.push_back(system + std::string(1, name) + long_prefix(199));
        for (int turn = 0; turn < 2; ++turn) ask_again(texts.back());
    }
    const Ref<Request> lone = submit(system + "lone", 100);
    run();
    EXPECT_EQ(done(lone).text, expected(system + "lone", 100));
    const Ref<Request> large = submit(std::string(1000, 'x'), 4);
    for (int i = 0; i < 4; ++i) scheduler_->step();
    EXPECT_EQ(scheduler_->stats().kept_cells, 0) << "everything has left";
    cache_->can_save = false;  // so that what is saved is not lost for the large one
    run();
    cache_->can_save = true;
    EXPECT_TRUE(done(large).outcome.has_value());
    const int restored = cache_->restored;
    for (const std::string& text : texts) EXPECT_EQ(ask_again(text), 299);
    EXPECT_GE(cache_->restored, restored + 2);
    expect_empty();
}

TEST_F(ParkingTest, what_cannot_be_saved_stays) {
    SchedulerOptions options = kOptions;
    options.max_sequences = 4;
    make(options);
    cache_->can_save = false;
    const std::string history = long_prefix(200) + "!";
    for (int turn = 0; turn < 2; ++turn) ask_again(history);
    for (const int others : {1, 2}) {
        for (int i = 0; i < others; ++i) submit("other" + std::to_string(i), 100);
        run();
        EXPECT_EQ(ask_again(history), 200) << "beside " << others;
    }
    EXPECT_EQ(scheduler_->stats().parked_tokens, 0U);
    expect_empty();
}

// Conversations behind two system prompts that take turns at random, some at once, and rest in between.
TEST_F(ParkingTest, random_turns_behind_common_beginnings_give_what_each_gives_alone) {
    SchedulerOptions options = kOptions;
    options.context_length = 900;
    options.cells = 1800;
    options.max_sequences = 10;
    make(options);
    std::uint32_t state = 7;
    const auto draw = [&state](std::uint32_t below) {
        state = state * 1664525 + 1013904223;
        return (state >> 8) % below;
    };
    std::vector<std::string> talks;
    const auto begun = [&] {
        std::string talk = (draw(2) == 0 ? "x" : "y") + long_prefix(99);
        for (std::uint32_t k = draw(250); k > 0; --k) talk += static_cast<char>('a' + draw(26));
        return talk;
    };
    talks.reserve(8);
    for (int i = 0; i < 8; ++i) talks.push_back(begun());
    std::size_t parts = 0;
    for (int round = 0; round < 400; ++round) {
        cache_->can_restore = draw(20) != 0;
        cache_->can_save = draw(20) != 0;
        std::vector<std::tuple<std::size_t, int, Ref<Request>>> asked;
        for (std::size_t who = 0; who < talks.size(); ++who) {
            if (draw(4) != 0) continue;
            std::string& talk = talks[who];
            if (talk.size() > 700) talk = begun();
            for (std::uint32_t k = 1 + draw(40); k > 0; --k) talk += static_cast<char>('a' + draw(26));
            const int count = static_cast<int>(1 + draw(draw(3) == 0 ? 100 : 20));
            asked.emplace_back(who, count, submit(talk, count));
            for (std::uint32_t k = draw(30); k > 0; --k) scheduler_->step();
        }
        run();
        ASSERT_EQ(cache_->used(), scheduler_->stats().cell_use.used);
        ASSERT_LE(scheduler_->stats().parked_tokens, 1800U);
        for (const auto& [who, count, request] : asked) {
            const RequestProgress progress = done(request);
            ASSERT_EQ(progress.text, expected(talks[who], count));
            talks[who] += progress.text;
        }
    }
    for (const auto& [tokens, adapter] : cache_->saved) {
        if (tokens.front() != 'x' && tokens.front() != 'y') ++parts;
    }
    EXPECT_GT(parts, 100U);
    EXPECT_GT(cache_->restored, 100);
    expect_empty();
}

TEST_F(ParkingTest, another_salt_gets_nothing) {
    make(kOptions);
    const std::string prompt = long_prefix(400);
    ask_again(prompt);
    RequestOptions options = ask(prompt, 4);
    options.cache_salt = "tenant";
    const Ref<Request> request = submit(std::move(options));
    run();
    EXPECT_EQ(done(request).outcome->reused_tokens, 0);
    EXPECT_EQ(cache_->restored, 0);
}

TEST_F(ParkingTest, nothing_is_saved_of_a_context_that_failed) {
    make(kOptions);
    const Ref<Request> request = submit(long_prefix(400), 50);
    for (int i = 0; i < 20; ++i) scheduler_->step();
    scheduler_->fail_all(Error(ErrorCode::kModel, "it broke"));
    EXPECT_FALSE(request->finish(Deadline::now()));
    EXPECT_TRUE(cache_->saved.empty());
    EXPECT_EQ(scheduler_->stats().parked_tokens, 0U);
}

}  // namespace
}  // namespace syncyte
