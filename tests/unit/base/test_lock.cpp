#include <gtest/gtest.h>

#include <mutex>
#include <thread>
#include <vector>

#include "base/lock.h"

namespace syncyte {
namespace {

TEST(Lock, excludes) {
    Lock lock;
    long count = 0;
    std::vector<std::jthread> threads;
    for (int t = 0; t < 8; ++t) {
        threads.emplace_back([&] {
            for (int i = 0; i < 20'000; ++i) {
                const std::lock_guard guard(lock);
                ++count;
            }
        });
    }
    threads.clear();
    EXPECT_EQ(count, 160'000);
}

TEST(Lock, try_lock_fails_while_held) {
    Lock lock;
    lock.lock();
    std::jthread([&] { EXPECT_FALSE(lock.try_lock()); }).join();
    lock.unlock();
    EXPECT_TRUE(lock.try_lock());
    lock.unlock();
}

TEST(Lock, sleepers_are_woken_after_a_long_section) {
    Lock lock;
    int entered = 0;
    std::vector<std::jthread> threads;
    lock.lock();
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&] {
            const std::lock_guard guard(lock);
            ++entered;
        });
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    lock.unlock();
    threads.clear();
    EXPECT_EQ(entered, 4);
}

}  // namespace
}  // namespace syncyte
