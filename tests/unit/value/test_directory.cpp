#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include "value/directory.h"

namespace syncyte {
namespace {

struct Probe final : Handle {
    Probe() : Handle(HandleKind::kMessage) {}
};

TEST(Directory, finds_a_handle_while_it_lives) {
    Ref<Handle> handle = make_ref<Probe>();
    const std::uint64_t id = handle->id();
    EXPECT_EQ(handle->id(), id);
    EXPECT_EQ(find_handle(id), handle);
    handle = nullptr;
    EXPECT_FALSE(find_handle(id));
    const Ref<Handle> next = make_ref<Probe>();
    EXPECT_NE(next->id(), id) << "numbers are never used twice";
}

TEST(Directory, a_pin_lasts_until_the_first_look) {
    Ref<Handle> handle = make_ref<Probe>();
    const std::uint64_t id = handle->id();
    pin_handle(handle);
    handle = nullptr;
    EXPECT_EQ(pinned_handles(), 1U);
    handle = find_handle(id);
    EXPECT_TRUE(handle);
    EXPECT_EQ(pinned_handles(), 0U);
    handle = nullptr;
    EXPECT_FALSE(find_handle(id));
}

TEST(Directory, pins_are_bounded) {
    std::vector<std::uint64_t> ids;
    for (std::size_t i = 0; i < 3 * kMaxPins; ++i) {
        const Ref<Handle> handle = make_ref<Probe>();
        ids.push_back(handle->id());
        pin_handle(handle);
    }
    EXPECT_EQ(pinned_handles(), kMaxPins);
    EXPECT_FALSE(find_handle(ids.front()));
    for (const std::uint64_t id : ids) static_cast<void>(find_handle(id));
    EXPECT_EQ(pinned_handles(), 0U);
}

TEST(Directory, lookups_race_with_the_last_release) {
    for (int round = 0; round < 300; ++round) {
        Ref<Handle> handle = make_ref<Probe>();
        const std::uint64_t id = handle->id();
        std::vector<std::thread> threads;
        for (int i = 0; i < 3; ++i) {
            threads.emplace_back([id] {
                for (int k = 0; k < 20; ++k) static_cast<void>(find_handle(id));
            });
        }
        handle = nullptr;
        for (auto& thread : threads) thread.join();
        EXPECT_FALSE(find_handle(id));
    }
}

TEST(Directory, a_fork_is_another_process) {
    const std::uint64_t here = process_identity();
    EXPECT_EQ(process_identity(), here);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) _exit(process_identity() == here ? 1 : 0);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace syncyte
