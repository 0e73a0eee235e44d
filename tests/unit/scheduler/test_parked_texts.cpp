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
    EXPECT_FALSE(parked.take(counted(1, 100), "other", 1));
    EXPECT_FALSE(parked.take(counted(1, 100), "s", 101));
    const auto found = parked.take(counted(1, 90), "s", 90);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->tokens, counted(1, 100));
    EXPECT_EQ(parked.tokens(), 200U);
    EXPECT_FALSE(parked.take(counted(1, 90), "s", 90));
    EXPECT_EQ(parked.take(counted(1, 90), "s", 80)->tokens, longer);
    EXPECT_EQ(parked.tokens(), 0U);
}

TEST(ParkedTextsTest, a_longer_text_takes_the_place_of_its_beginnings) {
    ParkedTexts parked(1000);
    parked.add(text(counted(1, 100)));
    parked.add(text(counted(1, 100), "other"));
    EXPECT_TRUE(parked.covers(counted(1, 60), "s"));
    EXPECT_FALSE(parked.covers(counted(1, 101), "s"));
    EXPECT_FALSE(parked.covers(counted(2, 60), "s"));
    parked.add(text(counted(1, 150)));
    EXPECT_EQ(parked.tokens(), 250U);
    EXPECT_TRUE(parked.covers(counted(1, 150), "s"));
    EXPECT_FALSE(parked.covers(counted(1, 150), "other"));
}

TEST(ParkedTextsTest, the_least_recently_used_leave_first) {
    ParkedTexts parked(300);
    for (const Token first : {1000, 2000, 3000}) parked.add(text(counted(first, 100)));
    EXPECT_TRUE(parked.covers(counted(1000, 50), "s"));
    parked.add(text(counted(4000, 150)));
    EXPECT_EQ(parked.tokens(), 250U);
    EXPECT_TRUE(parked.covers(counted(1000, 100), "s"));
    EXPECT_FALSE(parked.covers(counted(2000, 100), "s"));
    EXPECT_FALSE(parked.covers(counted(3000, 100), "s"));
    parked.add(text(counted(5000, 301)));  // more than there is room for at all
    EXPECT_EQ(parked.tokens(), 250U);
    parked.clear();
    EXPECT_EQ(parked.tokens(), 0U);
    EXPECT_FALSE(parked.covers(counted(1000, 100), "s"));
}

}  // namespace
}  // namespace syncyte
