#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <thread>

#include "channel/select.h"

namespace syncyte {
namespace {

using namespace std::chrono_literals;
using Ints = Channel<int>;

class Select : public testing::Test {
  protected:
    Ref<Ints> a_ = make_ref<Ints>();
    Ref<Ints> b_ = make_ref<Ints>();
    std::array<Ints*, 2> both_{a_.get(), b_.get()};
};

TEST_F(Select, takes_what_is_there_from_one_only) {
    ASSERT_TRUE(b_->try_put(2));
    Selection<int> selection(both_);
    ASSERT_TRUE(selection.begin());
    const auto [index, waiter] = selection.end();
    EXPECT_EQ(index, 1U);
    EXPECT_EQ(waiter->item, 2);
    ASSERT_TRUE(a_->try_put(1));
    EXPECT_EQ(a_->size(), 1U);
}

TEST_F(Select, is_woken_by_the_first_and_passed_over_by_the_rest) {
    Selection<int> selection(both_);
    ASSERT_FALSE(selection.begin());
    ASSERT_TRUE(b_->try_put(2));
    ASSERT_TRUE(a_->try_put(1));
    EXPECT_EQ(Parker::of_this_thread().wait(selection.handoff(), Deadline::after(60)), Wake::kUnparked);
    const auto [index, waiter] = selection.end();
    EXPECT_EQ(index, 1U);
    EXPECT_EQ(waiter->item, 2);
    EXPECT_EQ(a_->size(), 1U);
    EXPECT_EQ(b_->size(), 0U);
}

TEST_F(Select, that_timed_out_takes_nothing) {
    {
        Selection<int> selection(both_);
        ASSERT_FALSE(selection.begin());
        EXPECT_EQ(Parker::of_this_thread().wait(selection.handoff(), Deadline::after(0.01)), Wake::kTimedOut);
        EXPECT_EQ(selection.end().second, nullptr);
    }
    ASSERT_TRUE(a_->try_put(1));
    EXPECT_EQ(a_->size(), 1U);
}

TEST_F(Select, sees_a_close) {
    Selection<int> selection(both_);
    ASSERT_FALSE(selection.begin());
    a_->close();
    const auto [index, waiter] = selection.end();
    EXPECT_EQ(index, 0U);
    EXPECT_EQ(waiter->outcome, Outcome::kClosed);
}

TEST_F(Select, loses_nothing_between_two_producers) {
    constexpr int kEach = 20'000;
    std::jthread to_a([&] {
        for (int i = 0; i < kEach; ++i) ASSERT_TRUE(a_->try_put(int(i)));
    });
    std::jthread to_b([&] {
        for (int i = 0; i < kEach; ++i) {
            ASSERT_TRUE(b_->try_put(int(i)));
            if (i % 64 == 0) std::this_thread::sleep_for(10us);
        }
    });
    std::array<int, 2> next{0, 0};
    while (next[0] + next[1] < 2 * kEach) {
        Selection<int> selection(both_);
        if (!selection.begin()) Parker::of_this_thread().wait(selection.handoff(), Deadline::after(0.0005));
        const auto [index, waiter] = selection.end();
        if (waiter == nullptr) continue;
        ASSERT_EQ(waiter->item, next.at(index));
        ++next.at(index);
    }
    EXPECT_EQ(a_->size() + b_->size(), 0U);
}

}  // namespace
}  // namespace syncyte
