#include <gtest/gtest.h>

#include <bit>
#include <limits>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "value/graph.h"

namespace syncyte {
namespace {

TEST(Slot, small_things_need_no_room) {
    for (const std::int64_t number :
         {std::int64_t{0}, std::int64_t{-1}, (std::int64_t{1} << 60) - 1, -(std::int64_t{1} << 60)}) {
        ASSERT_TRUE(Slot::fits_integer(number));
        EXPECT_EQ(Slot::integer(number).integer(), number);
        EXPECT_EQ(Slot::integer(number).kind(), Slot::Kind::kInteger);
    }
    EXPECT_FALSE(Slot::fits_integer(std::int64_t{1} << 60));
    EXPECT_FALSE(Slot::fits_integer(std::numeric_limits<std::int64_t>::min()));
    EXPECT_TRUE(Slot().is_none());
    EXPECT_TRUE(Slot::boolean(true).is_true());
    EXPECT_FALSE(Slot::boolean(false).is_true());
    EXPECT_NE(Slot::boolean(false), Slot::none());
}

TEST(Slot, short_texts) {
    GraphBuilder builder;
    for (const std::string_view text : {"", "a", "1234567"}) {
        const Slot slot = builder.text(0, text.data(), text.size());
        EXPECT_EQ(slot.kind(), Slot::Kind::kShortText);
        char read[Slot::kShortest];
        slot.short_characters(read);
        EXPECT_EQ(std::string_view(read, slot.short_length()), text);
        EXPECT_EQ(slot, Slot::short_text(text.data(), text.size()));
    }
    EXPECT_EQ(builder.size(), 0U);
    EXPECT_NE(Slot::short_text("\0", 1), Slot::short_text("", 0));
    EXPECT_EQ(builder.text(0, "12345678", 8).kind(), Slot::Kind::kNode);
    EXPECT_EQ(builder.text(1, "\xe9", 1).kind(), Slot::Kind::kNode);
}

TEST(Graph, leaves_and_lists) {
    GraphBuilder builder;
    const Slot list = builder.slots(NodeKind::kList, 5);
    builder.set_slot(list, 0, builder.real(-0.5));
    builder.set_slot(list, 1, builder.text(0, "longer than seven", 17));
    builder.set_slot(list, 2, builder.bytes(NodeKind::kBytes, "abc", 3));
    builder.set_slot(list, 3, builder.complex(1, 2));
    const Ref<Graph> graph = builder.finish();
    const NodeHeader& node = graph->node(list);
    ASSERT_EQ(node.kind, NodeKind::kList);
    const auto slots = node_slots(node);
    ASSERT_EQ(slots.size(), 5U);
    EXPECT_EQ(graph->real(slots[0]), -0.5);
    const NodeHeader& text = graph->node(slots[1]);
    EXPECT_EQ(std::string_view(node_characters(text), text.count), "longer than seven");
    EXPECT_EQ(graph->node(slots[2]).count, 3U);
    EXPECT_TRUE(slots[4].is_none());
}

TEST(Graph, tables_find_every_key_and_no_other) {
    for (const std::size_t count : {0, 1, 2, 3, 10, 1000, 100'000}) {
        // Hashes that collide in their low bits, and some that are equal.
        const auto hash_of = [](std::size_t i) { return static_cast<std::int64_t>(i / 2 * 1024); };
        GraphBuilder builder;
        const Slot table = builder.table(NodeKind::kDict, count);
        for (std::size_t i = 0; i < count; ++i) {
            const auto number = static_cast<std::int64_t>(i);
            builder.set_entry(table, i, {hash_of(i), Slot::integer(number), Slot::integer(-number)});
        }
        builder.finish_table(table);
        const Ref<Graph> graph = builder.finish();
        const NodeHeader& node = graph->node(table);
        EXPECT_LT(node_entries(node).size() + 1, table_size(count) + 1);
        const std::size_t step = count > 1000 ? 97 : 1;
        for (std::size_t i = 0; i < count + 10; i += step) {
            const Slot key = Slot::integer(static_cast<std::int64_t>(i));
            const Entry* entry = find_entry(node, hash_of(i), [&](Slot slot) { return slot == key ? 1 : 0; });
            ASSERT_EQ(entry != nullptr, i < count) << i;
            if (entry == nullptr) continue;
            EXPECT_EQ(entry->value.integer(), -static_cast<std::int64_t>(i));
        }
    }
}

TEST(Graph, a_failing_comparison_ends_the_search) {
    GraphBuilder builder;
    const Slot table = builder.table(NodeKind::kSet, 2);
    builder.set_entry(table, 0, {5, Slot::integer(1), {}});
    builder.set_entry(table, 1, {5, Slot::integer(2), {}});
    builder.finish_table(table);
    const Ref<Graph> graph = builder.finish();
    int asked = 0;
    EXPECT_EQ(find_entry(graph->node(table), 5, [&](Slot) { return ++asked, -1; }), nullptr);
    EXPECT_EQ(asked, 1);
}

TEST(Graph, every_table_size_is_a_power_of_two_with_room) {
    for (std::size_t count = 0; count < 5000; ++count) {
        EXPECT_TRUE(std::has_single_bit(table_size(count)));
        EXPECT_GT(table_size(count), count);
    }
}

TEST(Graph, is_read_by_many_threads_and_freed_by_the_last) {
    GraphBuilder builder;
    const Slot list = builder.slots(NodeKind::kTuple, 1000);
    for (std::size_t i = 0; i < 1000; ++i) builder.set_slot(list, i, builder.real(static_cast<double>(i)));
    Ref<const Graph> graph = builder.finish();
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([shared = make_ref<Shared>(graph, list)] {
            double sum = 0;
            for (const Slot slot : node_slots(shared->node())) sum += shared->graph().real(slot);
            EXPECT_EQ(sum, 999.0 * 500);
        });
    }
    graph = nullptr;
    for (auto& thread : threads) thread.join();
}

TEST(GraphBuilder, an_unfinished_one_frees_its_memory) {
    GraphBuilder builder;
    const std::string text(100'000, 'x');
    static_cast<void>(builder.text(0, text.data(), text.size()));
    EXPECT_GT(builder.size(), text.size());
}

}  // namespace
}  // namespace syncyte
