#include <gtest/gtest.h>

#include <numeric>
#include <utility>
#include <vector>

#include "scheduler/parked_texts.h"

namespace syncyte {
namespace {

std::vector<Token> counted(Token first, std::size_t count) {
    std::vector<Token> tokens(count);
    std::iota(tokens.begin(), tokens.end(), first);
    return tokens;
}

ParkedTexts::Text text(std::vector<Token> tokens, std::string salt = "s") {
    const auto mark = static_cast<std::uint8_t>(tokens.front());
    return {.tokens = std::move(tokens), .salt = std::move(salt), .state = {mark}};
}

TEST(ParkedTextsTest, gives_the_longest_beginning_once) {
    ParkedTexts parked(1000);
    parked.add(text(counted(1, 100)));
    std::vector<Token> longer = counted(1, 80);
    longer.resize(200, 7);
    parked.add(text(longer));
    EXPECT_EQ(parked.tokens(), 300U);
    EXPECT_FALSE(parked.take({counted(1, 100), "other"}, 1));
    EXPECT_FALSE(parked.take({counted(1, 100), "s"}, 101));
    const auto found = parked.take({counted(1, 90), "s"}, 90);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->tokens, counted(1, 100));
    EXPECT_EQ(parked.tokens(), 200U);
    EXPECT_FALSE(parked.take({counted(1, 90), "s"}, 90));
    EXPECT_EQ(parked.take({counted(1, 90), "s"}, 80)->tokens, longer);
    EXPECT_EQ(parked.tokens(), 0U);
}

TEST(ParkedTextsTest, a_longer_text_takes_the_place_of_its_beginnings) {
    ParkedTexts parked(1000);
    parked.add(text(counted(1, 100)));
    parked.add(text(counted(1, 100), "other"));
    EXPECT_TRUE(parked.covers({counted(1, 60), "s"}));
    EXPECT_FALSE(parked.covers({counted(1, 101), "s"}));
    EXPECT_FALSE(parked.covers({counted(2, 60), "s"}));
    parked.add(text(counted(1, 150)));
    EXPECT_EQ(parked.tokens(), 250U);
    EXPECT_TRUE(parked.covers({counted(1, 150), "s"}));
    EXPECT_FALSE(parked.covers({counted(1, 150), "other"}));
}

TEST(ParkedTextsTest, the_least_recently_used_leave_first) {
    ParkedTexts parked(300);
    for (const Token first : {1000, 2000, 3000}) parked.add(text(counted(first, 100)));
    EXPECT_TRUE(parked.covers({counted(1000, 50), "s"}));
    parked.add(text(counted(4000, 150)));
    EXPECT_EQ(parked.tokens(), 250U);
    EXPECT_TRUE(parked.covers({counted(1000, 100), "s"}));
    EXPECT_FALSE(parked.covers({counted(2000, 100), "s"}));
    EXPECT_FALSE(parked.covers({counted(3000, 100), "s"}));
    parked.add(text(counted(5000, 301)));  // more than there is room for at all
    EXPECT_EQ(parked.tokens(), 250U);
    parked.clear();
    EXPECT_EQ(parked.tokens(), 0U);
    EXPECT_FALSE(parked.covers({counted(1000, 100), "s"}));
}

TEST(ParkedTextsTest, a_part_is_for_those_who_hold_what_comes_before) {
    ParkedTexts parked(300);
    ParkedTexts::Text part = text(counted(1, 100));
    part.from = 60;
    parked.add(part);
    EXPECT_EQ(parked.tokens(), 40U);
    EXPECT_FALSE(parked.covers({counted(1, 80), "s", 59}));
    EXPECT_TRUE(parked.covers({counted(1, 80), "s", 60}));
    EXPECT_FALSE(parked.find({counted(1, 100), "s", 59}, 1));
    parked.add(text(counted(1, 60)));
    EXPECT_EQ(parked.tokens(), 100U) << "the part needs its beginning";
    parked.add(text(counted(101, 190)));
    EXPECT_TRUE(parked.takes({counted(401, 20), "s", 10}));
    EXPECT_FALSE(parked.takes({counted(401, 20), "s", 9}));
    EXPECT_TRUE(parked.takes({counted(1, 100), "s", 60})) << "it is there";
    EXPECT_FALSE(parked.takes({counted(1, 100), "s", 59}));
    const auto found = parked.take({counted(1, 100), "s", 70}, 71);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->from, 60U);
    EXPECT_EQ(parked.tokens(), 250U);
}

TEST(ParkedTextsTest, a_whole_text_takes_the_place_of_its_parts) {
    ParkedTexts parked(1000);
    for (const std::size_t from : {60U, 30U}) {
        ParkedTexts::Text part = text(counted(1, 100));
        part.from = from;
        parked.add(part);
        EXPECT_EQ(parked.tokens(), 100 - from);
    }
    parked.add(text(counted(1, 100)));
    EXPECT_EQ(parked.tokens(), 100U);
    ParkedTexts::Text part = text(counted(1, 120));
    part.from = 90;
    parked.add(part);
    EXPECT_EQ(parked.tokens(), 130U) << "the whole one may be the only one with the beginning";
}

}  // namespace
}  // namespace syncyte
