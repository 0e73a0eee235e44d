#include <gtest/gtest.h>

#include <deque>
#include <memory>

#include "channel/ring.h"

namespace syncyte {
namespace {

TEST(Ring, keeps_order_while_growing_around_the_end) {
    Ring<std::unique_ptr<int>> ring;
    std::deque<int> expected;
    int next = 0;
    for (int round = 0; round < 200; ++round) {
        for (int i = 0; i < 7; ++i, ++next) {
            ring.push(std::make_unique<int>(next));
            expected.push_back(next);
        }
        for (int i = 0; i < 5; ++i) {
            ASSERT_EQ(*ring.pop(), expected.front());
            expected.pop_front();
        }
        ASSERT_EQ(ring.size(), expected.size());
    }
}

TEST(Ring, destroys_what_is_left) {
    const auto item = std::make_shared<int>(1);
    {
        Ring<std::shared_ptr<int>> ring;
        for (int i = 0; i < 20; ++i) ring.push(std::shared_ptr<int>(item));
        ring.pop();
        const Ring<std::shared_ptr<int>> other(std::move(ring));
        EXPECT_EQ(other.size(), 19U);
        EXPECT_EQ(item.use_count(), 20);
    }
    EXPECT_EQ(item.use_count(), 1);
}

}  // namespace
}  // namespace syncyte
