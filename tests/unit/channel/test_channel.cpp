#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "channel/channel.h"

namespace syncyte {
namespace {

using namespace std::chrono_literals;
using Strings = Channel<std::string>;

Deadline soon() { return Deadline::after(60); }

TEST(Channel, is_first_in_first_out) {
    const auto channel = make_ref<Strings>();
    for (int i = 0; i < 100; ++i) ASSERT_TRUE(channel->put(std::to_string(i), soon()));
    EXPECT_EQ(channel->size(), 100U);
    for (int i = 0; i < 100; ++i) ASSERT_EQ(channel->get(soon()), std::to_string(i));
    EXPECT_EQ(channel->try_get().error().code, ErrorCode::kEmpty);
}

TEST(Channel, full_leaves_the_item_alone) {
    const auto channel = make_ref<Strings>(2);
    std::string item = "mine";
    ASSERT_TRUE(channel->try_put("a"));
    ASSERT_TRUE(channel->try_put("b"));
    EXPECT_EQ(channel->try_put(std::move(item)).error().code, ErrorCode::kFull);
    EXPECT_EQ(item, "mine");  // NOLINT(bugprone-use-after-move): that it is not moved from is the point
    EXPECT_EQ(channel->put(std::move(item), Deadline::after(0.01)).error().code, ErrorCode::kTimedOut);
    EXPECT_EQ(item, "mine");  // NOLINT(bugprone-use-after-move)
    EXPECT_EQ(channel->size(), 2U);
}

TEST(Channel, get_times_out) {
    const auto channel = make_ref<Strings>();
    const auto start = Clock::now();
    EXPECT_EQ(channel->get(Deadline::after(0.02)).error().code, ErrorCode::kTimedOut);
    EXPECT_GE(Clock::now() - start, 20ms);
    EXPECT_EQ(channel->get(Deadline::now()).error().code, ErrorCode::kTimedOut);
    // A getter that gave up takes nothing.
    ASSERT_TRUE(channel->try_put("x"));
    EXPECT_EQ(channel->size(), 1U);
}

TEST(Channel, hands_over_to_a_sleeping_getter) {
    const auto channel = make_ref<Strings>();
    const std::jthread getter([&] { EXPECT_EQ(channel->get(soon()), "hello"); });
    std::this_thread::sleep_for(5ms);
    ASSERT_TRUE(channel->try_put("hello"));
}

TEST(Channel, a_get_admits_the_putter_that_waited_longest) {
    const auto channel = make_ref<Channel<int>>(1);
    ASSERT_TRUE(channel->try_put(0));
    std::array<Waiter<int>, 4> putters;
    for (int next = 1; Waiter<int>& putter : putters) {
        putter.item = next++;
        ASSERT_FALSE(channel->begin_put(putter));
    }
    for (int i = 0; i <= 4; ++i) EXPECT_EQ(channel->get(soon()), i);
    for (const Waiter<int>& putter : putters) EXPECT_EQ(putter.outcome, Outcome::kDone);
}

TEST(Channel, getters_are_served_in_the_order_they_came) {
    const auto channel = make_ref<Channel<int>>();
    std::array<Waiter<int>, 4> getters;
    for (Waiter<int>& getter : getters) ASSERT_FALSE(channel->begin_get(getter));
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(channel->try_put(int(i)));
    for (int next = 0; const Waiter<int>& getter : getters) EXPECT_EQ(getter.item, next++);
}

TEST(Channel, close_drains_and_fails_waiters) {
    const auto channel = make_ref<Channel<int>>(1);
    ASSERT_TRUE(channel->try_put(7));
    std::jthread putter([&] { EXPECT_EQ(channel->put(8, soon()).error().code, ErrorCode::kClosed); });
    std::this_thread::sleep_for(5ms);
    channel->close();
    putter.join();
    EXPECT_TRUE(channel->closed());
    EXPECT_EQ(channel->try_put(9).error().code, ErrorCode::kClosed);
    EXPECT_EQ(channel->get(soon()), 7);
    EXPECT_EQ(channel->get(soon()).error().code, ErrorCode::kClosed);
    EXPECT_EQ(channel->try_get().error().code, ErrorCode::kClosed);
}

TEST(Channel, close_wakes_every_getter) {
    const auto channel = make_ref<Channel<int>>();
    std::vector<std::jthread> getters;
    for (int i = 0; i < 8; ++i) {
        getters.emplace_back([&] { EXPECT_EQ(channel->get(soon()).error().code, ErrorCode::kClosed); });
    }
    std::this_thread::sleep_for(5ms);
    channel->close();
}

// An item whose destructor uses the channel it was in.
struct Nosy {
    Nosy(Channel<std::shared_ptr<Nosy>>* its_channel, std::size_t* count)
        : channel(its_channel), seen(count) {}
    Nosy(const Nosy&) = delete;
    Nosy& operator=(const Nosy&) = delete;
    ~Nosy() { *seen += 1 + channel->size(); }
    Channel<std::shared_ptr<Nosy>>* channel;
    std::size_t* seen;
};

TEST(Channel, discarding_drops_items_outside_the_lock) {
    const auto channel = make_ref<Channel<std::shared_ptr<Nosy>>>();
    std::size_t seen = 0;
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(channel->try_put(std::make_shared<Nosy>(channel.get(), &seen)));
    channel->close(Close::kDiscard);
    EXPECT_EQ(seen, 3U);
    EXPECT_EQ(channel->get(soon()).error().code, ErrorCode::kClosed);
}

TEST(Channel, join_waits_for_every_item) {
    const auto channel = make_ref<Channel<int>>();
    EXPECT_EQ(channel->task_done().error().code, ErrorCode::kInvalidArgument);
    ASSERT_TRUE(channel->try_put(1));
    ASSERT_TRUE(channel->try_put(2));
    Waiter<int> joiner;
    ASSERT_FALSE(channel->begin_join(joiner));
    ASSERT_EQ(channel->get(soon()), 1);
    ASSERT_TRUE(channel->task_done());
    EXPECT_FALSE(joiner.handoff->fired());
    channel->close(Close::kDiscard);  // the second item goes undone: nobody will do it
    EXPECT_TRUE(joiner.handoff->fired());
    EXPECT_EQ(channel->unfinished(), 0U);
    Waiter<int> late;
    EXPECT_TRUE(channel->begin_join(late));
}

TEST(Channel, a_cancelled_join_leaves_the_line) {
    const auto channel = make_ref<Channel<int>>();
    ASSERT_TRUE(channel->try_put(1));
    {
        Waiter<int> joiner;
        ASSERT_FALSE(channel->begin_join(joiner));
        EXPECT_TRUE(channel->cancel_join(joiner));
    }
    EXPECT_TRUE(channel->task_done());
}

TEST(Channel, many_at_once) {
    const auto channel = make_ref<Channel<int>>(4);
    std::vector<int> items{1, 2, 3, 4, 5, 6};
    EXPECT_EQ(channel->try_put_many(items), 4U);
    std::vector<int> got;
    EXPECT_EQ(channel->try_get_many(got, 3), 3U);
    EXPECT_EQ(channel->try_get_many(got, 3), 1U);
    EXPECT_EQ(channel->try_get_many(got, 3), 0U);
    EXPECT_EQ(got, (std::vector<int>{1, 2, 3, 4}));
    channel->close();
    EXPECT_EQ(channel->try_put_many(items).error().code, ErrorCode::kClosed);
}

TEST(Channel, what_is_given_back_keeps_its_place) {
    const auto channel = make_ref<Channel<int>>();
    Waiter<int> first;
    Waiter<int> second;
    Waiter<int> third;
    for (Waiter<int>* waiter : {&first, &second, &third}) ASSERT_FALSE(channel->begin_get(*waiter));
    for (int i = 1; i <= 5; ++i) ASSERT_TRUE(channel->try_put(int(i)));
    EXPECT_FALSE(channel->cancel_get(second));
    channel->give_back(second);
    channel->give_back(first);
    EXPECT_EQ(channel->size(), 4U);
    EXPECT_EQ(channel->get(soon()), 1);
    channel->give_back(third);
    channel->give_back(third);  // again: nothing left to give
    for (int i = 2; i <= 5; ++i) EXPECT_EQ(channel->get(soon()), i);
    EXPECT_EQ(channel->size(), 0U);
}

TEST(Channel, what_is_given_back_goes_to_a_waiting_getter) {
    const auto channel = make_ref<Channel<int>>();
    Waiter<int> first;
    Waiter<int> second;
    ASSERT_FALSE(channel->begin_get(first));
    ASSERT_TRUE(channel->try_put(1));
    ASSERT_FALSE(channel->begin_get(second));
    channel->give_back(first);
    ASSERT_TRUE(second.handoff->fired());
    EXPECT_EQ(second.item, 1);
}

TEST(Channel, what_was_got_returns_to_its_place) {
    const auto channel = make_ref<Channel<int>>();
    for (int i = 0; i < 6; ++i) ASSERT_TRUE(channel->try_put(int(i)));
    std::uint64_t place = 0;
    EXPECT_EQ(channel->try_get(&place), 0);
    std::vector<int> items;
    std::vector<std::uint64_t> places;
    EXPECT_EQ(channel->try_get_many(items, 3, &places), 3U);
    ASSERT_EQ(places.size(), 3U);
    for (const std::size_t i : {1U, 2U, 0U}) channel->give_back(std::move(items[i]), places[i]);
    channel->give_back(0, place);
    for (int i = 0; i < 6; ++i) EXPECT_EQ(channel->get(soon()), i);
}

TEST(Channel, what_is_given_back_after_all_was_dropped_is_finished) {
    const auto channel = make_ref<Channel<int>>();
    Waiter<int> getter;
    ASSERT_FALSE(channel->begin_get(getter));
    ASSERT_TRUE(channel->try_put(1));
    ASSERT_TRUE(channel->try_put(2));
    channel->close(Close::kDiscard);
    EXPECT_EQ(channel->unfinished(), 1U);
    Waiter<int> joiner;
    ASSERT_FALSE(channel->begin_join(joiner));
    channel->give_back(getter);
    EXPECT_EQ(channel->unfinished(), 0U);
    EXPECT_TRUE(joiner.handoff->fired());
    channel->give_back(getter);
    EXPECT_EQ(channel->size(), 0U);
}

TEST(Channel, an_interrupt_ends_a_wait_without_taking_anything) {
    const auto channel = make_ref<Channel<int>>();
    Parker::of_this_thread().interrupt();
    EXPECT_EQ(channel->get(soon()).error().code, ErrorCode::kInterrupted);
    ASSERT_TRUE(channel->try_put(1));
    EXPECT_EQ(channel->size(), 1U);
}

TEST(Channel, memory_of_a_burst_does_not_disturb_later_use) {
    const auto channel = make_ref<Channel<std::string>>();
    for (int round = 0; round < 3; ++round) {
        for (int i = 0; i < 10'000; ++i) ASSERT_TRUE(channel->try_put(std::to_string(i)));
        for (int i = 0; i < 10'000; ++i) ASSERT_EQ(channel->try_get(), std::to_string(i));
    }
}

// One thread does at random whatever may be done; a plain deque says what must come of it.
TEST(Channel, behaves_like_a_deque_with_every_mixture_of_operations) {
    for (const std::size_t capacity : {0U, 3U, 40U}) {
        const auto channel = make_ref<Channel<int>>(capacity);
        std::mt19937 random(static_cast<unsigned>(capacity) + 1);
        std::deque<int> expected;
        std::vector<std::unique_ptr<Waiter<int>>> holders;
        int next = 0;
        for (int i = 0; i < 50'000; ++i) {
            const auto draw = random() % 100;
            if (draw < 45) {
                const bool put = channel->try_put(int(next)).has_value();
                ASSERT_EQ(put, capacity == 0 || expected.size() < capacity);
                if (put) expected.push_back(next++);
            } else if (draw < 80 && !expected.empty()) {
                ASSERT_EQ(channel->try_get(), expected.front());
                expected.pop_front();
            } else if (draw < 85) {
                std::vector<int> items;
                const std::size_t most = random() % 12;
                ASSERT_EQ(channel->try_get_many(items, most), std::min(most, expected.size()));
                for (const int item : items) {
                    ASSERT_EQ(item, expected.front());
                    expected.pop_front();
                }
            } else if (draw < 95 && !expected.empty()) {
                holders.push_back(std::make_unique<Waiter<int>>());
                ASSERT_TRUE(channel->begin_get(*holders.back()));
                ASSERT_EQ(holders.back()->item, expected.front());
                expected.pop_front();
            } else if (!holders.empty()) {
                const auto holder = holders.begin() + static_cast<std::ptrdiff_t>(random() % holders.size());
                const int item = *(*holder)->item;
                channel->give_back(**holder);
                holders.erase(holder);
                expected.insert(std::ranges::lower_bound(expected, item), item);
            }
            if (holders.size() > 5) holders.erase(holders.begin());
            ASSERT_EQ(channel->size(), expected.size());
        }
    }
}

TEST(Port, tells_of_finished_waits) {
    const auto channel = make_ref<Channel<int>>();
    const Ref<Port> port = Port::open().value();
    Waiter<int> first(port, 11);
    Waiter<int> second(port, 22);
    Waiter<int> third(port, 33);
    ASSERT_FALSE(channel->begin_get(first));
    ASSERT_FALSE(channel->begin_get(second));
    ASSERT_FALSE(channel->begin_get(third));
    EXPECT_TRUE(port->drain().empty());
    ASSERT_TRUE(channel->try_put(1));
    ASSERT_TRUE(channel->try_put(2));
    EXPECT_EQ(port->drain(), (std::vector<std::uint64_t>{11, 22}));
    EXPECT_EQ(first.item, 1);
    EXPECT_EQ(second.item, 2);
    channel->close();
    EXPECT_EQ(port->drain(), (std::vector<std::uint64_t>{33}));
    EXPECT_EQ(third.outcome, Outcome::kClosed);
}

}  // namespace
}  // namespace syncyte
