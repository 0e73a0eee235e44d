#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/grammar.h"
#include "engine/grammar_machine.h"
#include "engine/sampler.h"
#include "engine/token_trie.h"

namespace syncyte {
namespace {

std::string utf8(std::uint32_t code) {
    const auto byte = [code](std::uint32_t lead, int shift) {
        return static_cast<char>(lead | (lead == 0x80 ? code >> shift & 63 : code >> shift));
    };
    if (code < 0x80) return {byte(0, 0)};
    if (code < 0x800) return {byte(0xC0, 6), byte(0x80, 0)};
    if (code < 0x10000) return {byte(0xE0, 12), byte(0x80, 6), byte(0x80, 0)};
    return {byte(0xF0, 18), byte(0x80, 12), byte(0x80, 6), byte(0x80, 0)};
}

// Tokens: the bytes, and some longer ones.
class WordModel final : public Model {
  public:
    WordModel() {
        for (int byte = 0; byte < 256; ++byte) pieces_.emplace_back(1, static_cast<char>(byte));
        for (const char* word : {"ab", "abc", "", "ab"}) pieces_.emplace_back(word);
        end_ = static_cast<Token>(pieces_.size()) - 2;
        pieces_.push_back(utf8(0xE9) + utf8(0x65E5));
        pieces_.push_back(utf8(0x65E5).substr(0, 2));
        info_.vocabulary_size = static_cast<std::int32_t>(pieces_.size());
    }

    [[nodiscard]] const ModelInfo& info() const override { return info_; }
    Result<std::vector<Token>> tokenize(std::string_view, AddSpecial, ParseSpecial) const override {
        return {};
    }
    Result<std::vector<Token>> tokenize_pair(std::string_view, std::string_view) const override {
        return std::vector<Token>();
    }
    Result<void> append_piece(Token token, ParseSpecial, std::string& bytes) const override {
        bytes += pieces_[static_cast<std::size_t>(token)];
        return {};
    }
    Result<std::string> detokenize(std::span<const Token>) const override { return ""; }
    [[nodiscard]] std::span<const Token> end_tokens() const override { return {&end_, 1}; }
    [[nodiscard]] const std::vector<std::string>& control_texts() const override { return none_; }
    Result<std::string> apply_template(const std::string&, std::span<const ChatMessage>,
                                       bool) const override {
        return "";
    }
    [[nodiscard]] Result<std::unique_ptr<Context>> make_context(const ContextOptions&) const override {
        return failure(ErrorCode::kModel);
    }
    [[nodiscard]] Result<std::shared_ptr<const Adapter>> load_adapter(const std::string&) const override {
        return failure(ErrorCode::kModel, "no adapters");
    }

    [[nodiscard]] const std::string& piece(std::size_t token) const { return pieces_[token]; }

  private:
    ModelInfo info_;
    std::vector<std::string> pieces_;
    Token end_ = 0;
    std::vector<std::string> none_;
};

Result<std::shared_ptr<GrammarMachine>> machine_of(std::string_view text) {
    static const WordModel model;
    auto grammar = parse_grammar(text);
    if (!grammar) return std::unexpected(grammar.error());
    return GrammarMachine::make(std::move(*grammar), std::make_shared<const TokenTrie>(model));
}

bool matches(std::string_view grammar, std::string_view text) {
    auto machine = machine_of(grammar);
    EXPECT_TRUE(machine) << machine.error().message;
    GrammarMachine::State state = (*machine)->start();
    for (const char byte : text) {
        state = (*machine)->step(state, static_cast<std::uint8_t>(byte));
        if (state < 0) return false;
    }
    return (*machine)->accepts(state);
}

TEST(Grammar, matches_what_it_says) {
    const std::string_view sum = "root ::= n (\"+\" n)*\nn ::= [1-9] [0-9]{0,2} | \"0\"";
    for (const char* text : {"0", "12+7", "999+0+1"}) EXPECT_TRUE(matches(sum, text)) << text;
    for (const char* text : {"", "01", "+1", "1+", "1000"}) EXPECT_FALSE(matches(sum, text)) << text;
    const std::string_view nested = "root ::= \"(\" root? \")\" | [a-c]{2,}";
    EXPECT_TRUE(matches(nested, "((((ab))))"));
    EXPECT_FALSE(matches(nested, "((ab)"));
    EXPECT_TRUE(matches("root ::= \"a\" root | \"b\"", std::string(5000, 'a') + "b"));
    EXPECT_TRUE(matches("root ::= ((\"a\"?)* (\"b\"*)?)+", "aabba"));
    EXPECT_TRUE(matches("root ::= \"x\"{3}", "xxx"));
    EXPECT_FALSE(matches("root ::= \"x\"{3}", "xxxx"));
    EXPECT_TRUE(matches("root ::= (\"xy\" | z){0,2}\nz ::= \"\"", "xyxy"));
}

// Every code point against a class, as UTF-8.
TEST(Grammar, classes_are_exact_in_utf8) {
    auto machine = machine_of("root ::= [a-z\\u00e9-\\u07ff\\u0800-\\u65e5\\U00010000-\\U0001F642]");
    ASSERT_TRUE(machine);
    auto inverse = machine_of("root ::= [^a-z\\u00e9-\\u07ff\\u0800-\\u65e5\\U00010000-\\U0001F642]");
    ASSERT_TRUE(inverse);
    const auto takes = [](GrammarMachine& one, const std::string& text) {
        GrammarMachine::State state = one.start();
        for (const char byte : text) {
            state = one.step(state, static_cast<std::uint8_t>(byte));
            if (state < 0) return false;
        }
        return one.complete(state);
    };
    for (std::uint32_t code = 0; code <= 0x10FFFF; code += code < 0x3000 ? 1 : 61) {
        if (code >= 0xD800 && code <= 0xDFFF) continue;
        const std::string text = utf8(code);
        const bool inside = (code >= 'a' && code <= 'z') || (code >= 0xE9 && code <= 0x7FF) ||
                            (code >= 0x800 && code <= 0x65E5) || (code >= 0x10000 && code <= 0x1F642);
        ASSERT_EQ(takes(**machine, text), inside) << code;
        ASSERT_EQ(takes(**inverse, text), !inside) << code;
    }
}

TEST(Grammar, allowed_tokens_are_those_that_can_go_on) {
    const WordModel model;
    for (const char* text : {"root ::= \"abcd\"", "root ::= [a-b]+ \"c\"?",
                             "root ::= \"\\u00e9\" . | \"\\u65e5\"", "root ::= \"\""}) {
        auto machine = machine_of(text);
        ASSERT_TRUE(machine) << machine.error().message;
        const auto bits = (*machine)->allowed(0);
        for (std::size_t token = 0; token < static_cast<std::size_t>(model.info().vocabulary_size); ++token) {
            const bool allowed = (bits[token / 64] >> (token % 64) & 1) != 0;
            if (std::ranges::contains(model.end_tokens(), static_cast<Token>(token))) {
                EXPECT_EQ(allowed, (*machine)->accepts(0));
                continue;
            }
            GrammarMachine::State state = model.piece(token).empty() ? GrammarMachine::kDead : 0;
            for (const char byte : model.piece(token)) {
                state = (*machine)->step(state, static_cast<std::uint8_t>(byte));
                if (state < 0) break;
            }
            EXPECT_EQ(allowed, state >= 0) << text << " token " << token;
        }
    }
}

TEST(Grammar, a_full_machine_goes_on_in_another) {
    // Each number of brackets is a state of its own: more than one machine holds.
    auto machine = machine_of("root ::= \"(\" root \")\" | [0-9]");
    ASSERT_TRUE(machine);
    GrammarCursor cursor(*machine);
    std::vector<float> logits(300);
    for (int depth = 0; depth < 40'000; ++depth) {
        ASSERT_TRUE(cursor.allows('('));
        cursor.accept('(');
    }
    cursor.accept('7');
    for (int depth = 0; depth < 40'000; ++depth) {
        ASSERT_FALSE(cursor.may_end());
        ASSERT_FALSE(cursor.allows('('));
        ASSERT_TRUE(cursor.allows(')'));
        cursor.accept(')');
    }
    EXPECT_TRUE(cursor.must_end());
}

TEST(Grammar, the_sampler_keeps_to_it) {
    auto machine = machine_of("root ::= \"b\" \"c\"?");
    ASSERT_TRUE(machine);
    const WordModel model;
    Sampler sampler({.temperature = 0}, {model.end_tokens()[0]}, {}, *machine);
    std::vector<float> logits(static_cast<std::size_t>(model.info().vocabulary_size), 0.0F);
    logits['a'] = 5;
    EXPECT_EQ(*sampler.sample(logits), 'b');
    EXPECT_FALSE(sampler.must_end());
    std::ranges::fill(logits, 0.0F);
    EXPECT_EQ(*sampler.sample(logits), 'c') << "the end is banned";
    EXPECT_TRUE(sampler.must_end());
}

TEST(Grammar, what_is_wrong_is_said) {
    const std::pair<const char*, const char*> cases[] = {
        {"", "no rule root"},
        {"root ::= root", "left recursion"},
        {"root ::= a* root\na ::= \"x\"", "left recursion"},
        {"root ::= \"a\" root", "never ends"},

        {"root ::= \"\\ud800\"", "not a character"},
        {"root = \"a\"", "::= is expected"},
        {"root ::= \"a\" )", "a new line is expected"},
        {"root ::= [a", "within quotes or brackets"},
    };
    for (const auto& [text, message] : cases) {
        const auto grammar = parse_grammar(text);
        ASSERT_FALSE(grammar) << text;
        EXPECT_EQ(grammar.error().code, ErrorCode::kInvalidArgument);
        EXPECT_TRUE(grammar.error().message.contains(message)) << grammar.error().message;
    }
}

TEST(Grammar, what_is_no_utf8_is_refused) {
    const std::string day = utf8(0x65E5);
    for (const std::string& odd :
         {day.substr(0, 2), day.substr(1), std::string(1, static_cast<char>(0xFF))}) {
        const auto grammar = parse_grammar("root ::= \"" + odd + "\"");
        ASSERT_FALSE(grammar);
        EXPECT_TRUE(grammar.error().message.contains("UTF-8")) << grammar.error().message;
    }
    EXPECT_TRUE(parse_grammar("root ::= \"" + day + "\""));
}

// Whatever the bytes, an answer comes: run under the sanitizers.
TEST(Grammar, damaged_texts_are_harmless) {
    const std::string source =
        "root ::= ws (pair (\",\" ws pair){0,3})? # all\npair ::= [a-z\\x41]+ \"=\" ( num | . )\n"
        "num ::= \"-\"? [0-9]{1,4} | \"(\" root \")\"\nws ::= [ \\t]*\n";
    std::string bytes = "[](){}|*+?\"\\-^#:=\n .aroot09,";
    bytes += static_cast<char>(0xC3);
    std::uint64_t seed = 1;
    const auto random = [&seed](std::size_t below) {
        seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
        return static_cast<std::size_t>(seed >> 33) % below;
    };
    int sound = 0;
    for (int round = 0; round < 4000; ++round) {
        std::string text = source;
        for (std::size_t changes = 1 + random(4); changes > 0; --changes) {
            const std::size_t at = random(text.size());
            if (random(3) == 0) text.erase(at, random(4));
            text.insert(std::min(at, text.size()), 1, bytes[random(bytes.size())]);
        }
        auto machine = machine_of(text);
        if (!machine) continue;
        ++sound;
        GrammarMachine::State state = 0;
        for (int step = 0; step < 20 && state >= 0; ++step) {
            (*machine)->allowed(state);
            state = (*machine)->step(state, static_cast<std::uint8_t>(bytes[random(bytes.size())]));
        }
    }
    EXPECT_GT(sound, 100);
}

}  // namespace
}  // namespace syncyte
