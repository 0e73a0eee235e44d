// Sequences that each have a part of the cache of their own.
#include <gtest/gtest.h>

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

TEST_F(SeparateTest, a_common_beginning_is_computed_by_each) {
    make_separate(3, 256);
    const std::string prefix = long_prefix();
    std::vector<Ref<Request>> requests;
    for (char name = 'a'; name < 'd'; ++name) requests.push_back(submit(prefix + name, 4));
    run();
    for (char name = 'a'; name < 'd'; ++name) {
        const RequestProgress found = done(requests[static_cast<std::size_t>(name - 'a')]);
        EXPECT_EQ(found.text, expected(prefix + name, 4));
    }
    EXPECT_EQ(scheduler_->stats().reused_tokens, 0U);
    expect_empty();
}

}  // namespace
}  // namespace syncyte
