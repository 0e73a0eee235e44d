#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scheduler/pace.h"

namespace syncyte {
namespace {

TEST(Pace, nobody_decodes_so_all_rows_are_for_prompts) {
    Pace pace;
    EXPECT_EQ(pace.prompt_rows(0, 128), 128U);
    pace.note(1, 31, 100);
    EXPECT_EQ(pace.prompt_rows(0, 128), 128U);
}

// Rows come by sixteen or by 64.
auto near_target() {
    return ::testing::AllOf(::testing::Gt(0.5 * Pace::kTarget), ::testing::Lt(1.3 * Pace::kTarget));
}

TEST(Pace, rows_beside_a_stream_follow_the_measured_time) {
    Pace pace;
    EXPECT_LT(pace.prompt_rows(1, 128), 128U) << "careful before anything was measured";
    double time_of_a_row = 0.001;
    const auto settle = [&] {
        for (int i = 0; i < 100; ++i) {
            const std::size_t rows = pace.prompt_rows(4, 2000);
            pace.note(4, rows, time_of_a_row * static_cast<double>(rows + 4));
        }
        return static_cast<double>(pace.prompt_rows(4, 2000) + 4) * time_of_a_row;
    };
    EXPECT_THAT(settle(), near_target());
    time_of_a_row = 0.005;
    EXPECT_THAT(settle(), near_target());
    time_of_a_row = 0.0003;
    EXPECT_THAT(settle(), near_target());
    time_of_a_row = 0.003;
    EXPECT_THAT(settle(), ::testing::Lt(1.5 * Pace::kTarget)) << "fifty rows are taken for 64";
    time_of_a_row = 1;
    settle();
    EXPECT_EQ(pace.prompt_rows(4, 2000), 12U) << "a prompt gets on in any case";
    EXPECT_EQ(pace.prompt_rows(16, 2000), 16U);
    EXPECT_EQ(pace.prompt_rows(9, 2000), 23U);
    EXPECT_EQ(pace.prompt_rows(30, 2000), 34U) << "63 rows take longer than 64";
    EXPECT_EQ(pace.prompt_rows(4, 3), 3U);
}

TEST(Pace, one_slow_step_changes_little) {
    Pace pace;
    for (int i = 0; i < 20; ++i) pace.note(1, 63, 0.064);
    const std::size_t before = pace.prompt_rows(1, 2000);
    pace.note(1, 63, 60);
    EXPECT_GE(pace.prompt_rows(1, 2000), before / 2);
}

TEST(Pace, a_few_rows_of_a_prompt_say_nothing_of_their_cost) {
    Pace pace;
    for (int i = 0; i < 20; ++i) pace.note(1, 63, 0.064);
    const std::size_t before = pace.prompt_rows(1, 2000);
    for (int i = 0; i < 20; ++i) pace.note(1, 1, 0.050);
    EXPECT_EQ(pace.prompt_rows(1, 2000), before);
}

TEST(Pace, least_seconds) {
    Pace pace;
    EXPECT_EQ(pace.least_seconds(1000), 0);
    pace.note(3, 0, 0.02);
    EXPECT_DOUBLE_EQ(pace.least_seconds(1), 0.02);
    EXPECT_EQ(pace.least_seconds(0), 0);
    pace.note(0, 100, 0.1);
    EXPECT_DOUBLE_EQ(pace.least_seconds(1000), 0.5);
    EXPECT_DOUBLE_EQ(pace.least_seconds(2), 0.02);
    EXPECT_DOUBLE_EQ(pace.least_seconds(1), 0.02);
}

}  // namespace
}  // namespace syncyte
