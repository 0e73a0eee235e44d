#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "value/reader.h"
#include "value/writer.h"

namespace syncyte {
namespace {

struct Probe final : Handle {
    explicit Probe(std::atomic<int>& live) : Handle(HandleKind::kMessage), live_(live) { ++live_; }
    ~Probe() override { --live_; }
    std::atomic<int>& live_;
};

std::string_view text_of(const Item& item) { return {reinterpret_cast<const char*>(item.data), item.count}; }

Item only_item(const Value& value) {
    EXPECT_TRUE(well_formed(value));
    Reader reader(value.bytes());
    Item item;
    EXPECT_TRUE(reader.next(item));
    return item;
}

TEST(Value, default_and_moved_from_are_empty) {
    Value value;
    EXPECT_TRUE(value.bytes().empty());
    EXPECT_TRUE(well_formed(value));
    Writer writer;
    writer.integer(7);
    value = writer.finish();
    const Value moved = std::move(value);
    EXPECT_TRUE(value.bytes().empty());  // NOLINT(bugprone-use-after-move)
    EXPECT_EQ(only_item(moved).integer, 7);
}

TEST(Value, integers_of_every_size) {
    for (const std::int64_t number :
         {std::int64_t{0}, std::int64_t{-1}, std::int64_t{127}, std::int64_t{-128}, std::int64_t{128},
          std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max()}) {
        Writer writer;
        writer.integer(number);
        EXPECT_EQ(only_item(writer.finish()).integer, number);
    }
}

TEST(Value, doubles_keep_every_bit) {
    const std::uint64_t payload = 0x7ff8'dead'beef'0001ULL;
    double nan = 0;
    std::memcpy(&nan, &payload, sizeof nan);
    for (const double number : {0.0, -0.0, nan, std::numeric_limits<double>::infinity(), 5e-324}) {
        Writer writer;
        writer.real(number);
        const double read = only_item(writer.finish()).real;
        EXPECT_EQ(std::memcmp(&read, &number, sizeof read), 0);
    }
}

TEST(Value, strings_inside_and_in_a_block) {
    for (const std::size_t length : {0, 1, 5, 46, 47, 200, 255, 256, 470, 480, 5000}) {
        const std::string text(length, 'x');
        Writer writer;
        writer.string(0, text.data(), length);
        const Value value = writer.finish();
        const Item item = only_item(value);
        EXPECT_EQ(text_of(item), text);
    }
}

TEST(Value, wide_strings_keep_their_units) {
    const std::vector<char32_t> text{U'a', char32_t{0x10ffff}, char32_t{0xd800}};
    Writer writer;
    writer.string(4, text.data(), text.size());
    const Value value = writer.finish();
    const Item item = only_item(value);
    EXPECT_EQ(item.width, 4);
    ASSERT_EQ(item.count, text.size());
    EXPECT_EQ(std::memcmp(item.data, text.data(), 4 * text.size()), 0);
}

TEST(Value, containers_follow_each_other) {
    Writer writer;
    writer.container(Tag::kDict, 1);
    writer.string(0, "key", 3);
    writer.container(Tag::kList, 2);
    writer.none();
    writer.boolean(true);
    const Value value = writer.finish();
    ASSERT_TRUE(well_formed(value));
    Reader reader(value.bytes());
    std::vector<Tag> tags;
    for (Item item; reader.next(item);) tags.push_back(item.tag);
    EXPECT_EQ(tags, (std::vector{Tag::kDict, Tag::kShortAscii, Tag::kList, Tag::kNone, Tag::kTrue}));
    EXPECT_TRUE(reader.at_end());
}

TEST(Value, packed_numbers) {
    const std::array<std::int16_t, 3> numbers{1, -2, 300};
    Writer writer;
    std::memcpy(writer.integers(Tag::kIntList, 2, numbers.size()), numbers.data(), sizeof numbers);
    const Value value = writer.finish();
    const Item item = only_item(value);
    EXPECT_EQ(item.width, 2);
    ASSERT_EQ(item.count, numbers.size());
    EXPECT_EQ(std::memcmp(item.data, numbers.data(), sizeof numbers), 0);
}

TEST(Value, repeats_name_an_earlier_item) {
    Writer writer;
    writer.container(Tag::kTuple, 2);
    const std::size_t first = writer.offset();
    writer.container(Tag::kList, 0);
    writer.repeat(first);
    const Value value = writer.finish();
    ASSERT_TRUE(well_formed(value));
    Reader reader(value.bytes());
    Item item;
    ASSERT_TRUE(reader.next(item) && reader.next(item));
    EXPECT_TRUE(item.repeated);
    EXPECT_EQ(item.offset, first);
    ASSERT_TRUE(reader.next(item));
    EXPECT_EQ(item.tag, Tag::kRepeat);
    EXPECT_EQ(item.count, first);
}

TEST(Value, handles_live_as_long_as_their_message) {
    std::atomic<int> live{0};
    {
        Writer writer;
        writer.container(Tag::kList, 2);
        const Ref<Handle> probe = make_ref<Probe>(live);
        writer.handle(probe);
        writer.none();
        writer.attach_handle(make_ref<Probe>(live));
        Value value = writer.finish();
        EXPECT_EQ(value.handles()[0], probe);
        const Value again = value.duplicate();
        value = Value();
        EXPECT_EQ(live, 2);
        EXPECT_TRUE(well_formed(again));
    }
    EXPECT_EQ(live, 0);
}

TEST(Value, an_unfinished_writer_lets_go) {
    std::atomic<int> live{0};
    {
        Writer writer;
        writer.handle(make_ref<Probe>(live));
        const std::string text(10'000, 'x');
        writer.bytes(text.data(), text.size());
    }
    EXPECT_EQ(live, 0);
}

TEST(Value, threads_share_one_block) {
    Writer writer;
    const std::string text(10'000, 'x');
    writer.string(0, text.data(), text.size());
    const Value value = writer.finish();
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([copy = value.duplicate()]() mutable {
            for (int k = 0; k < 1000; ++k) {
                Value mine = copy.duplicate();
                copy = std::move(mine);
            }
            EXPECT_EQ(only_item(copy).count, 10'000U);
        });
    }
    for (auto& thread : threads) thread.join();
}

Value one_of_everything(std::atomic<int>& live) {
    Writer writer;
    writer.container(Tag::kTuple, 12);
    const std::size_t list = writer.offset();
    writer.container(Tag::kList, 2);
    writer.integer(1'000'000);
    writer.real(0.5);
    writer.repeat(list);
    const std::array<char16_t, 2> euros{0x20ac, 0x20ac};
    writer.string(2, euros.data(), euros.size());
    writer.bytes("abc", 3);
    writer.container(Tag::kDict, 1);
    writer.string(0, "k", 1);
    writer.container(Tag::kFrozenSet, 1);
    writer.complex(1, 2);
    writer.byte_array("abc", 3);
    std::memset(writer.integers(Tag::kIntTuple, 4, 5), 1, 20);
    std::memset(writer.reals(Tag::kFloatList, 2), 1, 16);
    writer.handle(make_ref<Probe>(live));
    writer.pickled(0);
    std::memset(writer.big_integer(20), 1, 20);
    writer.none();
    writer.attach_pickle({}, 1);
    return writer.finish();
}

TEST(Reader, truncated_messages_are_refused) {
    std::atomic<int> live{0};
    const Value value = one_of_everything(live);
    ASSERT_TRUE(well_formed(value));
    for (std::size_t size = 1; size < value.bytes().size(); ++size) {
        // A copy of just that size, so that AddressSanitizer sees a read beyond it.
        const std::vector<std::byte> part(value.bytes().begin(),
                                          value.bytes().begin() + static_cast<std::ptrdiff_t>(size));
        EXPECT_FALSE(well_formed(part, 1, 1)) << size;
    }
    std::vector<std::byte> longer(value.bytes().begin(), value.bytes().end());
    longer.push_back(std::byte{0});
    EXPECT_FALSE(well_formed(longer, 1, 1));
    EXPECT_FALSE(well_formed(value.bytes(), 0, 1)) << "a handle that is not there";
    EXPECT_FALSE(well_formed(value.bytes(), 1, 0)) << "a pickled object that is not there";
}

TEST(Reader, garbage_is_never_read_past_its_end) {
    std::atomic<int> live{0};
    const Value value = one_of_everything(live);
    std::mt19937 random(20);
    std::uniform_int_distribution<int> byte(0, 255);
    int accepted = 0;
    for (int round = 0; round < 50'000; ++round) {
        std::vector<std::byte> bytes(value.bytes().begin(), value.bytes().end());
        if (round % 2 == 0) {
            for (int k = 0; k < 1 + round % 5; ++k) {
                bytes[random() % bytes.size()] = static_cast<std::byte>(byte(random));
            }
        } else {
            bytes.resize(1 + random() % 60);
            for (auto& b : bytes) b = static_cast<std::byte>(byte(random) % 32);
        }
        accepted += well_formed(bytes, 1, 1) ? 1 : 0;
        Reader reader(bytes);
        std::size_t seen = 0;
        for (Item item; reader.next(item);) {
            if (item.data != nullptr && item.count > 0 && item.tag <= Tag::kByteArray) {
                seen += static_cast<std::size_t>(item.data[item.count - 1]);
            }
            item = Item();
        }
        EXPECT_LE(seen, bytes.size() * 255);
    }
    EXPECT_GT(accepted, 0);
    EXPECT_LT(accepted, 50'000);
}

TEST(Reader, nesting_is_bounded) {
    for (const int depth : {kMaxDepth, kMaxDepth + 1}) {
        Writer writer;
        for (int i = 0; i < depth; ++i) writer.container(Tag::kList, i + 1 < depth ? 1 : 0);
        EXPECT_EQ(well_formed(writer.finish()), depth == kMaxDepth);
    }
}

}  // namespace
}  // namespace syncyte
