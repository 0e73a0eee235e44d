#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <thread>
#include <vector>

#include "base/parking.h"

namespace syncyte {
namespace {

using namespace std::chrono_literals;

// The CPU time the calling thread has used.
double thread_seconds() {
    timespec used{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return static_cast<double>(used.tv_sec) + 1e-9 * static_cast<double>(used.tv_nsec);
}

// Each test runs with and without the spin in front of the sleep.
class Parking : public testing::TestWithParam<std::chrono::nanoseconds> {
  protected:
    void SetUp() override { set_spin_time(GetParam()); }
    void TearDown() override { set_spin_time(usual_); }

  private:
    std::chrono::nanoseconds usual_ = spin_time();
};

INSTANTIATE_TEST_SUITE_P(Spin, Parking, testing::Values(0ns, 20'000ns));

TEST_P(Parking, unpark_before_park_is_not_lost) {
    Parker& parker = Parker::of_this_thread();
    parker.unpark();
    parker.unpark();
    EXPECT_EQ(parker.park(Deadline::never()), Wake::kUnparked);
    EXPECT_EQ(parker.park(Deadline::after(0.01)), Wake::kTimedOut);
}

TEST_P(Parking, deadlines_are_honoured) {
    const auto start = Clock::now();
    EXPECT_EQ(Parker::of_this_thread().park(Deadline::after(0.02)), Wake::kTimedOut);
    EXPECT_GE(Clock::now() - start, 20ms);
    EXPECT_EQ(Parker::of_this_thread().park(Deadline::now()), Wake::kTimedOut);
}

TEST_P(Parking, unpark_wakes_a_sleeper) {
    std::atomic<Parker*> sleeper{nullptr};
    std::jthread thread([&] {
        sleeper = &Parker::of_this_thread();
        EXPECT_EQ(Parker::of_this_thread().park(Deadline::after(60)), Wake::kUnparked);
    });
    while (sleeper == nullptr) std::this_thread::yield();
    std::this_thread::sleep_for(5ms);
    sleeper.load()->unpark();
}

TEST_P(Parking, interrupt_counts_once_now_or_next) {
    Parker& parker = Parker::of_this_thread();
    parker.interrupt();
    EXPECT_EQ(parker.park(Deadline::after(60)), Wake::kInterrupted);
    EXPECT_EQ(parker.park(Deadline::after(0.005)), Wake::kTimedOut);
    std::jthread other([&] {
        std::this_thread::sleep_for(5ms);
        parker.interrupt();
    });
    EXPECT_EQ(parker.park(Deadline::after(60)), Wake::kInterrupted);
}

TEST_P(Parking, a_wait_leaves_tokens_alone) {
    Parker& parker = Parker::of_this_thread();
    parker.unpark();
    const Handoff handoff;
    EXPECT_EQ(parker.wait(handoff, Deadline::after(0.005)), Wake::kTimedOut);
    EXPECT_EQ(parker.park(Deadline::never()), Wake::kUnparked);
}

TEST_P(Parking, signal_handlers_end_a_sleep) {
    struct sigaction action{};
    struct sigaction before{};
    action.sa_handler = [](int) {};
    sigaction(SIGUSR1, &action, &before);
    const pthread_t self = pthread_self();
    std::atomic<bool> ended{false};
    std::jthread sender([&] {
        // Again and again: the first may come before the sleep.
        while (!ended) {
            pthread_kill(self, SIGUSR1);
            std::this_thread::sleep_for(1ms);
        }
    });
    EXPECT_EQ(Parker::of_this_thread().park(Deadline::after(60)), Wake::kInterrupted);
    ended = true;
    sender.join();
    sigaction(SIGUSR1, &before, nullptr);
}

TEST_P(Parking, handoffs_publish_and_are_never_lost) {
    constexpr int kRounds = 5'000;
    struct Cell {
        Handoff handoff;
        int value = 0;
    };
    std::atomic<Cell*> offered{nullptr};
    std::jthread giver([&] {
        for (int i = 1; i <= kRounds; ++i) {
            Cell* cell = nullptr;
            while ((cell = offered.exchange(nullptr)) == nullptr) std::this_thread::yield();
            cell->value = i;
            cell->handoff.fire();
        }
    });
    for (int i = 1; i <= kRounds; ++i) {
        Cell cell;
        offered = &cell;
        ASSERT_EQ(Parker::of_this_thread().wait(cell.handoff, Deadline::after(60)), Wake::kUnparked);
        ASSERT_EQ(cell.value, i);
    }
}

TEST_P(Parking, waiting_costs_no_cpu_time) {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 50; ++t) {
        threads.emplace_back([] {
            const double before = thread_seconds();
            EXPECT_EQ(Parker::of_this_thread().park(Deadline::after(0.2)), Wake::kTimedOut);
            EXPECT_LT(thread_seconds() - before, 0.02);
        });
    }
    threads.clear();
    EXPECT_EQ(spinning_threads(), 0);
}

TEST_P(Parking, parkers_outlive_their_threads) {
    Parker* parker = nullptr;
    std::jthread([&] { parker = &Parker::of_this_thread(); }).join();
    parker->unpark();
    parker->interrupt();
    std::jthread([&] {
        // Reused or not, a fresh thread starts without the leftovers.
        EXPECT_EQ(Parker::of_this_thread().park(Deadline::after(0.005)), Wake::kTimedOut);
    }).join();
}

}  // namespace
}  // namespace syncyte
