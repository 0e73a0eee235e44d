#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <vector>

#include "scheduler/output_text.h"

namespace syncyte {
namespace {

// Not as string literals: an assembler older than the compiler does not know how it writes those.
std::string bytes(std::initializer_list<int> values) {
    std::string text;
    for (const int value : values) text += static_cast<char>(value);
    return text;
}

const std::string kReplacement = bytes({0xEF, 0xBF, 0xBD});
const std::string kAcute = bytes({0xC3, 0xA9});
const std::string kEuro = bytes({0xE2, 0x82, 0xAC});
const std::string kSmile = bytes({0xF0, 0x9F, 0x99, 0x82});

// Feeds `bytes` in pieces of `size`; the text that came out, up to a stop.
std::string fed(OutputText& text, const std::string& bytes, std::size_t size) {
    std::string out;
    for (std::size_t i = 0; i < bytes.size(); i += size) {
        if (text.append(std::string_view(bytes).substr(i, size), out)) return out;
    }
    text.finish(out);
    return out;
}

TEST(OutputText, characters_stay_whole) {
    const std::string said = "a" + kAcute + kEuro + kSmile + "z";
    for (std::size_t size = 1; size <= said.size(); ++size) {
        OutputText text({});
        std::string out;
        for (std::size_t i = 0; i < said.size(); i += size) {
            text.append(std::string_view(said).substr(i, size), out);
            std::string valid;
            EXPECT_EQ(append_valid_utf8(out, valid), 0U);
            EXPECT_EQ(valid, out);
        }
        text.finish(out);
        EXPECT_EQ(out, said);
    }
}

TEST(OutputText, an_unfinished_character_is_replaced_at_the_end) {
    OutputText text({});
    EXPECT_EQ(fed(text, "a" + bytes({0xE2, 0x82}), 1), "a" + kReplacement);
}

TEST(OutputText, bytes_that_are_no_text_are_replaced_as_python_does) {
    const auto valid = [](std::string_view bytes) {
        std::string out;
        const std::size_t rest = append_valid_utf8(bytes, out);
        if (rest > 0) out += kReplacement;
        return out;
    };
    const std::string r = kReplacement;
    EXPECT_EQ(valid(bytes({0xFF})), r);
    EXPECT_EQ(valid(bytes({0x80, 0x80})), r + r);
    EXPECT_EQ(valid(bytes({0xC0, 0xAF})), r + r);            // overlong
    EXPECT_EQ(valid(bytes({0xED, 0xA0, 0x80})), r + r + r);  // a surrogate
    EXPECT_EQ(valid(bytes({0xF4, 0x90, 0x80, 0x80})), r + r + r + r);
    EXPECT_EQ(valid(bytes({0xE2, 0x82, 'a'})),
              r + "a");  // cut short: one for the part
    EXPECT_EQ(valid(bytes({0xF0, 0x9F, 0x99})), r);
}

TEST(OutputText, a_stop_string_ends_it_whatever_the_pieces) {
    const std::string said = "one two END three";
    for (std::size_t size = 1; size <= said.size(); ++size) {
        OutputText text({"END"});
        EXPECT_EQ(fed(text, said, size), "one two ") << size;
    }
}

TEST(OutputText, the_earliest_stop_string_counts) {
    OutputText text({"three", "two", "END"});
    EXPECT_EQ(fed(text, "one two END three", 20), "one ");
}

TEST(OutputText, no_part_of_a_stop_string_is_ever_shown) {
    OutputText text({"STOP"});
    std::string out;
    EXPECT_FALSE(text.append("xS", out));
    EXPECT_EQ(out, "x");
    EXPECT_FALSE(text.append("T", out));
    EXPECT_FALSE(text.append("O", out));
    EXPECT_EQ(out, "x");
    EXPECT_TRUE(text.append("P after", out));
    EXPECT_EQ(out, "x");
}

TEST(OutputText, what_only_looked_like_a_stop_string_comes_later) {
    OutputText text({"aab"});
    std::string out;
    EXPECT_FALSE(text.append("aa", out));
    EXPECT_EQ(out, "");
    EXPECT_FALSE(text.append("a", out));  // "aa" may still begin one
    EXPECT_EQ(out, "a");
    EXPECT_FALSE(text.append("c", out));
    EXPECT_EQ(out, "aaac");
    EXPECT_FALSE(text.append("aa", out));
    text.finish(out);
    EXPECT_EQ(out, "aaacaa");
}

TEST(OutputText, stop_strings_of_several_bytes_a_character) {
    for (std::size_t size = 1; size <= 4; ++size) {
        OutputText text({kEuro + kEuro});
        EXPECT_EQ(fed(text, "a" + kEuro + "b" + kEuro + kEuro + "c", size), "a" + kEuro + "b");
    }
}

}  // namespace
}  // namespace syncyte
