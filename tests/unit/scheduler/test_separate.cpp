// Sequences that each have a part of the cache of their own.
#include <gtest/gtest.h>

#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "scheduling_test.h"

namespace syncyte {
namespace {

// Each sequence has a part of the cache of its own.
class SeparateTest : public SchedulingTest {
  protected:
    void make_separate(std::int32_t sequences, std::int32_t context) {
        const SchedulerOptions options{.max_sequences = sequences,
                                       .context_length = context,
                                       .cells = sequences * context,
                                       .layout = CacheLayout::kSeparate,
                                       .rows_per_step = 16};
        make(options);
        cache_->separate = true;
        scheduler_ = std::make_unique<Scheduler>(model_, model_->make_context(cache_, 16), options);
    }
};

TEST_F(SeparateTest, every_step_is_one_pass_whoever_ends) {
    make_separate(6, 64);
    cache_->while_computing = [this](std::span<const BatchRow> rows) {
        EXPECT_EQ(cache_->passes, 1);
        for (const BatchRow& row : rows) EXPECT_LT(row.sequence, 6);
    };
    const std::vector<int> lengths{3, 40, 12, 25, 7, 33, 9, 18, 5, 30, 2, 21};
    std::vector<Ref<Request>> requests;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
        requests.push_back(submit(std::string(4, static_cast<char>('a' + i)), lengths[i]));
    }
    run();
    for (std::size_t i = 0; i < lengths.size(); ++i) {
        EXPECT_EQ(done(requests[i]).text, expected(std::string(4, static_cast<char>('a' + i)), lengths[i]));
    }
    EXPECT_GT(cache_->renamed, 0);
    EXPECT_EQ(cache_->gathered, 0);
    expect_empty();
}

TEST_F(SeparateTest, nobody_moves_where_there_is_no_gap) {
    make_separate(4, 64);
    std::vector<Ref<Request>> requests;
    for (char name = 'a'; name < 'e'; ++name) requests.push_back(submit(std::string(4, name), 10));
    run();
    for (const Ref<Request>& request : requests) EXPECT_EQ(done(request).text.size(), 10U);
    EXPECT_EQ(cache_->renamed, 0);
}

TEST_F(SeparateTest, an_urgent_request_takes_the_place_of_another) {
    make_separate(2, 64);
    std::vector<Ref<Request>> requests;
    for (char name = 'a'; name < 'c'; ++name) requests.push_back(submit(std::string(4, name), 40));
    for (int i = 0; i < 10; ++i) scheduler_->step();
    RequestOptions urgent = ask("now", 5);
    urgent.priority = 10;
    const Ref<Request> first = submit(std::move(urgent));
    for (int i = 0; i < 8; ++i) scheduler_->step();
    EXPECT_EQ(done(first).text, expected("now", 5));
    run();
    for (char name = 'a'; name < 'c'; ++name) {
        EXPECT_EQ(done(requests[static_cast<std::size_t>(name - 'a')]).text,
                  expected(std::string(4, name), 40));
    }
    EXPECT_GT(scheduler_->stats().pauses, 0U);
    expect_empty();
}

TEST_F(SeparateTest, a_common_beginning_is_computed_once_and_copied) {
    make_separate(3, 256);
    const std::string prefix = long_prefix();
    std::vector<Ref<Request>> requests;
    for (char name = 'a'; name < 'd'; ++name) requests.push_back(submit(prefix + name, 4));
    run();
    for (char name = 'a'; name < 'd'; ++name) {
        const RequestProgress found = done(requests[static_cast<std::size_t>(name - 'a')]);
        EXPECT_EQ(found.text, expected(prefix + name, 4));
    }
    EXPECT_EQ(scheduler_->stats().reused_tokens, 200U);
    EXPECT_EQ(scheduler_->stats().cell_use.shared, 0);
    expect_empty();
}

TEST_F(SeparateTest, turns_go_on_in_their_own_part) {
    make_separate(4, 256);
    std::vector<std::string> talks{"A" + long_prefix(30), "B" + long_prefix(30), "C" + long_prefix(30)};
    for (int turn = 0; turn < 4; ++turn) {
        std::vector<Ref<Request>> requests;
        for (const std::string& talk : talks) requests.push_back(submit(talk, 10));
        run();
        for (std::size_t i = 0; i < talks.size(); ++i) {
            const RequestProgress found = done(requests[i]);
            EXPECT_EQ(found.text, expected(talks[i], 10));
            EXPECT_EQ(found.outcome->reused_tokens, turn == 0 ? 0 : std::ssize(talks[i]) - 7);
            talks[i] += found.text + "more " + std::to_string(turn);
        }
    }
    EXPECT_EQ(cache_->restored, 0);
    expect_empty();
}

TEST_F(SeparateTest, one_who_rests_between_others_is_saved_and_comes_back) {
    make_separate(3, 256);
    cache_->while_computing = [this](std::span<const BatchRow>) { EXPECT_EQ(cache_->passes, 1); };
    const Ref<Request> first = submit("A" + long_prefix(30), 60);
    const Ref<Request> between = submit("B" + long_prefix(30), 10);
    const Ref<Request> last = submit("C" + long_prefix(30), 60);
    for (int i = 0; i < 30; ++i) scheduler_->step();
    EXPECT_EQ(done(between).text, expected("B" + long_prefix(30), 10));
    EXPECT_EQ(scheduler_->stats().parked_tokens, 40U);
    const std::string more = "B" + long_prefix(30) + expected("B" + long_prefix(30), 10) + "and";
    const Ref<Request> next = submit(more, 10);
    run();
    const RequestProgress found = done(next);
    EXPECT_EQ(found.text, expected(more, 10));
    EXPECT_EQ(found.outcome->reused_tokens, 40);
    EXPECT_EQ(done(first).text, expected("A" + long_prefix(30), 60));
    EXPECT_EQ(done(last).text, expected("C" + long_prefix(30), 60));
    expect_empty();
}

TEST_F(SeparateTest, a_branch_leaves_the_other_as_it_is) {
    make_separate(3, 256);
    const std::string talk = long_prefix(60);
    const Ref<Request> running = submit(talk, 100);
    for (int i = 0; i < 30; ++i) scheduler_->step();
    const Ref<Request> branch = submit(talk + "#", 10);
    run();
    const RequestProgress found = done(branch);
    EXPECT_EQ(found.text, expected(talk + "#", 10));
    EXPECT_EQ(found.outcome->reused_tokens, 60);
    EXPECT_EQ(done(running).text, expected(talk, 100));
    expect_empty();
}

TEST_F(SeparateTest, with_every_part_in_use_texts_still_come_back) {
    make_separate(1, 256);
    std::vector<std::string> talks{"A" + long_prefix(50), "B" + long_prefix(50)};
    for (int turn = 0; turn < 3; ++turn) {
        for (std::string& talk : talks) {
            const Ref<Request> request = submit(talk, 10);
            run();
            const RequestProgress found = done(request);
            EXPECT_EQ(found.text, expected(talk, 10));
            EXPECT_GE(found.outcome->reused_tokens, turn == 0 ? 0 : 60);
            talk += found.text + "more";
        }
    }
    const Ref<Request> branch = submit("A" + long_prefix(50) + "#", 10);
    run();
    EXPECT_EQ(done(branch).outcome->reused_tokens, 51);
    expect_empty();
}

TEST_F(SeparateTest, random_requests_are_answered_as_if_alone) {
    std::mt19937 random(5);
    make_separate(5, 160);
    struct Asked {
        Ref<Request> request;
        std::string prompt;
        int count;
        bool cancelled;
    };
    std::vector<Asked> asked;
    std::vector<std::string> said;
    for (int i = 0; i < 600; ++i) {
        std::string prompt =
            long_prefix(1 + static_cast<int>(random() % 60)) + static_cast<char>('A' + random() % 5);
        if (!said.empty() && random() % 2 == 0) prompt = said[random() % said.size()];
        const int count = 1 + static_cast<int>(random() % 20);
        if (prompt.size() < 120) said.push_back(prompt + expected(prompt, count) + "and");
        RequestOptions options = ask(prompt, count);
        options.priority = static_cast<std::int32_t>(random() % 3);
        options.cache_salt = random() % 4 == 0 ? "other" : "";
        asked.push_back({submit(std::move(options)), prompt, count, false});
        for (auto steps = random() % 12; steps > 0; --steps) scheduler_->step();
        if (random() % 6 == 0) {
            Asked& any = asked[random() % asked.size()];
            any.request->cancel();
            any.cancelled = true;
        }
    }
    run();
    for (const Asked& one : asked) {
        const RequestProgress progress = done(one.request);
        const std::string text = expected(one.prompt, one.count);
        if (one.cancelled) {
            EXPECT_TRUE(text.starts_with(progress.text));
        } else {
            EXPECT_EQ(progress.text, text);
        }
    }
    EXPECT_GT(scheduler_->stats().reused_tokens, 5000U);
    EXPECT_GT(scheduler_->stats().pauses, 0U);
    expect_empty();
}

}  // namespace
}  // namespace syncyte
