// Many producers and consumers with timeouts, interrupts and items given back: nothing lost, nothing twice,
// the order of each producer kept.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "channel/channel.h"

namespace syncyte {
namespace {

struct Message {
    int producer;
    int number;
};

struct Load {
    int producers;
    int consumers;
    std::size_t capacity;
    int messages;  // of each producer
};

void produce(Channel<Message>& channel, int producer, int messages) {
    std::minstd_rand random(static_cast<unsigned>(producer) + 1);
    for (int i = 0; i < messages;) {
        const bool hasty = random() % 4 == 0;
        Message message{producer, i};
        const auto put = channel.put(std::move(message), hasty ? Deadline::after(2e-6) : Deadline::never());
        if (put) {
            ++i;
        } else {
            ASSERT_TRUE(put.error().code == ErrorCode::kTimedOut ||
                        put.error().code == ErrorCode::kInterrupted);
        }
    }
}

// One wait in two steps, given up after a moment; what had been handed over by then is given back or kept.
std::optional<Message> get_in_two_steps(Channel<Message>& channel, bool keep, bool& closed) {
    Waiter<Message> waiter;
    if (!channel.begin_get(waiter)) {
        Parker& parker = Parker::of_this_thread();
        if (parker.wait(*waiter.handoff, Deadline::after(2e-6)) != Wake::kUnparked) {
            if (channel.cancel_get(waiter)) return std::nullopt;
            while (!waiter.handoff->fired()) parker.wait(*waiter.handoff, Deadline::never());
        }
    }
    closed = waiter.outcome == Outcome::kClosed;
    if (closed) return std::nullopt;
    if (keep) return waiter.item;
    channel.give_back(waiter);
    return std::nullopt;
}

class ChannelStress : public testing::TestWithParam<Load> {
  protected:
    void consume(std::size_t consumer) {
        parkers_[consumer] = &Parker::of_this_thread();
        std::minstd_rand random(static_cast<unsigned>(consumer) + 100);
        bool closed = false;
        while (!closed) {
            // Several consumers keep what they get: a later item may already be out with another.
            const bool keep = load_.consumers > 1 || random() % 2 == 0;
            if (random() % 4 == 0) {
                const auto message = get_in_two_steps(*channel_, keep, closed);
                if (message) received_[consumer].push_back(*message);
            } else if (const auto message = channel_->get(Deadline::after(0.001))) {
                received_[consumer].push_back(*message);
            } else {
                closed = message.error().code == ErrorCode::kClosed;
            }
        }
    }

    void interrupt_all() {
        while (!ended_) {
            for (auto& parker : parkers_) {
                if (parker != nullptr) parker.load()->interrupt();
            }
            std::this_thread::sleep_for(std::chrono::microseconds(200));
        }
    }

    void check_received() const {
        std::vector<std::vector<int>> seen(static_cast<std::size_t>(load_.producers),
                                           std::vector<int>(static_cast<std::size_t>(load_.messages)));
        for (const auto& messages : received_) {
            std::vector<int> last(static_cast<std::size_t>(load_.producers), -1);
            for (const Message& message : messages) {
                const auto producer = static_cast<std::size_t>(message.producer);
                ASSERT_GT(message.number, last[producer]);
                last[producer] = message.number;
                ++seen[producer][static_cast<std::size_t>(message.number)];
            }
        }
        for (const auto& counts : seen) {
            for (const int count : counts) ASSERT_EQ(count, 1);
        }
    }

    const Load load_ = GetParam();
    const Ref<Channel<Message>> channel_ = make_ref<Channel<Message>>(load_.capacity);
    std::vector<std::vector<Message>> received_{static_cast<std::size_t>(load_.consumers)};
    std::vector<std::atomic<Parker*>> parkers_{static_cast<std::size_t>(load_.consumers)};
    std::atomic<bool> ended_{false};
};

INSTANTIATE_TEST_SUITE_P(Loads, ChannelStress,
                         testing::Values(Load{1, 1, 0, 50'000}, Load{1, 1, 1, 5'000}, Load{4, 4, 0, 20'000},
                                         Load{4, 4, 3, 5'000}, Load{8, 2, 16, 5'000},
                                         Load{2, 8, 16, 20'000}));

TEST_P(ChannelStress, loses_nothing) {
    std::vector<std::jthread> consumers;
    for (std::size_t c = 0; c < received_.size(); ++c) consumers.emplace_back([this, c] { consume(c); });
    std::jthread interrupter([this] { interrupt_all(); });
    std::vector<std::jthread> producers;
    for (int p = 0; p < load_.producers; ++p) {
        producers.emplace_back([this, p] { produce(*channel_, p, load_.messages); });
    }
    producers.clear();
    channel_->close();
    consumers.clear();
    ended_ = true;
    interrupter.join();
    check_received();
}

TEST(ChannelFairness, no_consumer_starves) {
    const auto channel = make_ref<Channel<int>>(8);
    std::array<std::atomic<int>, 4> got{};
    std::vector<std::jthread> consumers;
    for (std::atomic<int>& count : got) {
        consumers.emplace_back([&channel, &count] {
            while (channel->get(Deadline::never())) ++count;
        });
    }
    // Everybody in line is served before anybody is served twice. Who gets no core for a while is not in
    // line: then there is more to come.
    const auto served = [&got] {
        return std::ranges::all_of(got, [](const auto& count) { return count > 200; });
    };
    const Deadline end = Deadline::after(60);
    for (int i = 0; i < 4'000 || (!served() && !end.passed()); ++i) {
        ASSERT_TRUE(channel->put(int(i), Deadline::never()));
        if (i % 4 == 3) std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    channel->close();
    consumers.clear();
    EXPECT_TRUE(served());
}

}  // namespace
}  // namespace syncyte
