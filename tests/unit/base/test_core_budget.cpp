#include <gtest/gtest.h>

#include "base/core_budget.h"
#include "base/cpu.h"

namespace syncyte {
namespace {

using std::chrono::milliseconds;

class CoreBudgetTest : public testing::Test {
  protected:
    // Looks once a millisecond, so many times, at `running` threads of which `own` are the team's.
    void look(int times, int running, int own) {
        for (int i = 0; i < times; ++i) budget_.observe(running, own, now_ += milliseconds(1));
    }

    [[nodiscard]] int threads() const { return budget_.threads(4, 4, 4); }

    CoreBudget budget_;
    Clock::time_point now_ = Clock::now();
};

TEST_F(CoreBudgetTest, idle_machine_gives_all) {
    look(10, 4, 4);
    EXPECT_EQ(threads(), 4);
}

TEST_F(CoreBudgetTest, leaves_a_core_to_each_of_the_others) {
    look(10, 4, 4);
    look(20, 5, 4);
    EXPECT_EQ(threads(), 3);
    look(20, 5, 3);
    EXPECT_EQ(threads(), 2);
    look(50, 40, 2);
    EXPECT_EQ(threads(), 1);
}

TEST_F(CoreBudgetTest, recovers_when_they_fall_idle) {
    look(50, 5, 3);
    EXPECT_EQ(threads(), 2);
    look(200, 2, 2);
    EXPECT_EQ(threads(), 4);
}

TEST_F(CoreBudgetTest, a_passing_thread_costs_nothing) {
    look(100, 4, 4);
    look(1, 5, 4);
    EXPECT_EQ(threads(), 4);
}

TEST_F(CoreBudgetTest, who_wakes_for_each_token_costs_nothing) {
    for (int step = 0; step < 100; ++step) {
        look(1, 12, 4);
        look(1, 5, 4);
        look(18, 4, 4);
        ASSERT_EQ(threads(), 4) << step;
    }
    look(20, 5, 4);
    EXPECT_EQ(threads(), 3) << "who stays counts";
}

TEST_F(CoreBudgetTest, after_a_pause_the_first_look_counts) {
    look(100, 7, 4);
    now_ += milliseconds(500);
    look(1, 1, 1);
    EXPECT_EQ(threads(), 4);
}

TEST_F(CoreBudgetTest, those_who_start_a_computation_and_then_wait_for_it_cost_nothing) {
    budget_.begin(1, now_);
    EXPECT_EQ(threads(), 4);
    now_ += milliseconds(500);
    budget_.begin(2, now_);
    EXPECT_EQ(threads(), 3) << "who stays counts";
}

int looks_until_calm = 0;

int calming() noexcept { return looks_until_calm-- > 0 ? 4 : 1; }

int busy() noexcept { return 4; }

TEST(CoreBudget, a_long_computation_waits_for_those_who_are_about_to_stop) {
    double others = 1;
    // A machine that stops this thread for longer than the patience lasts is tried again.
    for (int i = 0; i < 20 && others > 0; ++i) {
        CoreBudget budget;
        looks_until_calm = 4;
        budget.refresh(10, calming);
        others = budget.others();
    }
    EXPECT_EQ(others, 0);
    CoreBudget budget;
    budget.refresh(10, busy);
    EXPECT_EQ(budget.others(), 3) << "but not for those who stay";
}

TEST_F(CoreBudgetTest, what_is_fixed_holds_whatever_runs) {
    look(20, 3, 1);
    EXPECT_EQ(budget_.threads(4, 4, 4), 2);
    EXPECT_EQ(budget_.threads(4, 4, 4, {.engine = 3}), 3);
    EXPECT_EQ(budget_.threads(2, 4, 4, {.engine = 3}), 2) << "a model's own limit holds as well";
    EXPECT_EQ(budget_.threads(16, 4, 16, {.engine = 8}), 4) << "and what the process may use";
    EXPECT_EQ(budget_.threads(4, 4, 4, {.agents = 3}), 1);
    EXPECT_EQ(budget_.threads(4, 4, 4, {.agents = 1}), 2) << "others who are there count anyway";
    EXPECT_EQ(budget_.threads(4, 4, 4, {.engine = 4, .agents = 1}), 3);
    EXPECT_EQ(budget_.threads(4, 4, 4, {.agents = 9}), 1);
}

TEST(FixedCores, are_the_processes) {
    fix_cores({.engine = 1});
    EXPECT_EQ(fixed_cores(), FixedCores{.engine = 1});
    EXPECT_EQ(CoreBudget().threads(1000), 1);
    fix_cores({});
    EXPECT_EQ(fixed_cores(), FixedCores{});
}

TEST_F(CoreBudgetTest, keeps_to_what_the_process_may_use) {
    look(10, 3, 1);
    EXPECT_EQ(budget_.threads(8, 2, 16), 2);
    EXPECT_EQ(budget_.threads(1, 4, 4), 1);
}

TEST(CoreBudget, of_this_machine_is_between_one_and_what_is_usable) {
    CoreBudget budget;
    budget.refresh(0);
    budget.observe_machine(1);
    EXPECT_GE(budget.threads(1000), 1);
    EXPECT_LE(budget.threads(1000), usable_cores());
    EXPECT_GE(budget.others(), 0);
}

}  // namespace
}  // namespace syncyte
