#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "base/ref.h"

namespace syncyte {
namespace {

struct Counted : RefCounted {
    explicit Counted(std::atomic<int>& live) : live_(live) { ++live_; }
    ~Counted() override { --live_; }
    std::atomic<int>& live_;
};

TEST(Ref, last_reference_deletes) {
    std::atomic<int> live{0};
    {
        Ref<Counted> a = make_ref<Counted>(live);
        const Ref<Counted> b = a;
        EXPECT_EQ(a->use_count(), 2U);
        a = nullptr;
        EXPECT_EQ(live, 1);
    }
    EXPECT_EQ(live, 0);
}

TEST(Ref, converts_to_base_and_back_to_one_owner) {
    std::atomic<int> live{0};
    {
        const Ref<RefCounted> base = make_ref<Counted>(live);
        EXPECT_EQ(base->use_count(), 1U);
    }
    EXPECT_EQ(live, 0);
}

struct Link : RefCounted {
    Ref<Link> next;
    Ref<Link> other;
};

TEST(Ref, chains_of_any_length_go_without_a_deep_stack) {
    std::thread small([] {
        Ref<Link> chain;
        for (int i = 0; i < 1'000'000; ++i) {
            Ref<Link> link = make_ref<Link>();
            link->other = i % 3 == 0 ? make_ref<Link>() : chain;
            link->next = std::move(chain);
            chain = std::move(link);
        }
        const Ref<Link> kept = chain->next;
        chain = nullptr;
        EXPECT_EQ(kept->use_count(), 1U);
    });
    small.join();
}

TEST(Ref, threads_share_one_object) {
    std::atomic<int> live{0};
    {
        const Ref<Counted> shared = make_ref<Counted>(live);
        std::vector<std::thread> threads;
        for (int i = 0; i < 4; ++i) {
            threads.emplace_back([shared] {
                for (int k = 0; k < 10'000; ++k) const Ref<Counted> copy = shared;
            });
        }
        for (auto& thread : threads) thread.join();
        EXPECT_EQ(shared->use_count(), 1U);
    }
    EXPECT_EQ(live, 0);
}

}  // namespace
}  // namespace syncyte
