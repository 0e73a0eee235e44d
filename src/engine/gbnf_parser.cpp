#include "engine/gbnf_parser.h"

#include <algorithm>
#include <cstddef>
#include <optional>

namespace syncyte {

namespace {

using Kind = GbnfExpression::Kind;
using Ranges = std::vector<std::pair<std::uint32_t, std::uint32_t>>;

constexpr std::size_t kMostText = std::size_t{4} << 20;
constexpr int kDeepest = 200;
constexpr int kMostStacked = 4;  // x*?+
constexpr std::uint32_t kMostRepeats = 100'000;
constexpr std::uint32_t kLastCodePoint = 0x10FFFF;
constexpr std::uint32_t kFirstSurrogate = 0xD800;
constexpr std::uint32_t kLastSurrogate = 0xDFFF;

bool is_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

int hex_digit(char c) {
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

void append_utf8(std::uint32_t code, std::string& text) {
    const auto tail = [&](int shift) { text += static_cast<char>(0x80 | ((code >> shift) & 0x3F)); };
    if (code < 0x80) {
        text += static_cast<char>(code);
    } else if (code < 0x800) {
        text += static_cast<char>(0xC0 | (code >> 6));
        tail(0);
    } else if (code < 0x10000) {
        text += static_cast<char>(0xE0 | (code >> 12));
        tail(6);
        tail(0);
    } else {
        text += static_cast<char>(0xF0 | (code >> 18));
        tail(12);
        tail(6);
        tail(0);
    }
}

// Sorted, apart, without surrogates, which UTF-8 does not have.
Ranges normalised(Ranges ranges) {
    std::ranges::sort(ranges);
    Ranges joined;
    for (const auto& [low, high] : ranges) {
        if (!joined.empty() && low <= joined.back().second + 1) {
            joined.back().second = std::max(joined.back().second, high);
        } else {
            joined.emplace_back(low, high);
        }
    }
    Ranges result;
    for (const auto& [low, high] : joined) {
        if (low < kFirstSurrogate) result.emplace_back(low, std::min(high, kFirstSurrogate - 1));
        if (high > kLastSurrogate) result.emplace_back(std::max(low, kLastSurrogate + 1), high);
    }
    return result;
}

Ranges complement(const Ranges& ranges) {
    Ranges result;
    std::uint32_t next = 0;
    for (const auto& [low, high] : ranges) {
        if (low > next) result.emplace_back(next, low - 1);
        next = high + 1;
    }
    if (next <= kLastCodePoint) result.emplace_back(next, kLastCodePoint);
    return normalised(std::move(result));
}

// Front to back. The first failure stays; from then on nothing moves and every loop ends.
class Parser {
  public:
    explicit Parser(std::string_view text) : text_(text) {}

    Result<GbnfRules> parse() {
        if (text_.size() > kMostText)
            return failure(ErrorCode::kInvalidArgument, "the grammar is over 4 MiB");
        skip_space(true);
        while (!failed() && !at_end()) rule();
        if (!failed()) check_names();
        if (failed()) return failure(ErrorCode::kInvalidArgument, *error_);
        return std::move(rules_);
    }

  private:
    [[nodiscard]] bool at_end() const { return at_ >= text_.size(); }
    [[nodiscard]] char peek(std::size_t ahead = 0) const {
        return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
    }
    [[nodiscard]] bool failed() const { return error_.has_value(); }

    void fail_at(std::size_t place, const std::string& what) {
        if (failed()) return;
        const std::string_view before = text_.substr(0, place);
        const auto line = std::ranges::count(before, '\n') + 1;
        const std::size_t start = before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
        error_ = "the grammar, line " + std::to_string(line) + ", column " +
                 std::to_string(place - start + 1) + ": " + what;
        at_ = text_.size();
    }
    void fail(const std::string& what) { fail_at(at_, what); }

    void skip_space(bool newlines) {
        while (!at_end()) {
            const char c = peek();
            if (c == '#') {
                while (!at_end() && peek() != '\n' && peek() != '\r') ++at_;
            } else if (c == ' ' || c == '\t' || (newlines && (c == '\n' || c == '\r'))) {
                ++at_;
            } else {
                return;
            }
        }
    }

    std::string_view name() {
        const std::size_t start = at_;
        while (!at_end() && is_name(peek())) ++at_;
        return text_.substr(start, at_ - start);
    }

    std::uint32_t rule_id(std::string_view name) {
        if (const auto found = rules_.ids.find(name); found != rules_.ids.end()) return found->second;
        const auto id = static_cast<std::uint32_t>(rules_.bodies.size());
        rules_.ids.emplace(name, id);
        rules_.bodies.emplace_back();
        rules_.names.emplace_back(name);
        defined_.push_back(false);
        named_at_.push_back(at_ - name.size());
        return id;
    }

    void rule() {
        const std::size_t start = at_;
        const std::string_view found = name();
        if (found.empty()) return fail("a rule's name is expected (letters, digits and -)");
        const std::uint32_t id = rule_id(found);
        if (defined_[id]) return fail_at(start, "the rule " + std::string(found) + " is there already");
        defined_[id] = true;
        skip_space(false);
        if (!text_.substr(at_).starts_with("::=")) return fail("::= is expected after the rule's name");
        at_ += 3;
        skip_space(true);
        GbnfExpression body = alternatives(false, 0);
        if (failed()) return;
        rules_.bodies[id] = std::move(body);
        if (!at_end() && peek() != '\n' && peek() != '\r') {
            return fail(std::string("a new line is expected, not '") + peek() + "'");
        }
        skip_space(true);
    }

    void check_names() {
        for (std::size_t id = 0; id < defined_.size(); ++id) {
            if (!defined_[id]) {
                return fail_at(named_at_[id], "there is no rule " + rules_.names[id]);
            }
        }
        if (!rules_.ids.contains("root")) error_ = "the grammar has no rule root";
    }

    // A rule goes on in the next line where that begins with `|`.
    bool another_alternative(bool nested) {
        const std::size_t here = at_;
        skip_space(true);
        if (peek() == '|') return true;
        if (!nested) at_ = here;
        return false;
    }

    GbnfExpression alternatives(bool nested, int depth) {
        GbnfExpression all{.kind = Kind::kAlternatives};
        all.parts.push_back(sequence(nested, depth));
        while (!failed() && another_alternative(nested)) {
            ++at_;
            skip_space(true);
            all.parts.push_back(sequence(nested, depth));
        }
        if (all.parts.size() > 1) return all;
        return std::move(all.parts.front());
    }

    GbnfExpression sequence(bool nested, int depth) {
        GbnfExpression all{.kind = Kind::kSequence};
        while (!failed() && !at_end()) {
            const char c = peek();
            if (c == '*' || c == '+' || c == '?' || c == '{') {
                repeat(all);
            } else if (std::optional<GbnfExpression> one = item(depth)) {
                all.parts.push_back(std::move(*one));
            } else {
                break;
            }
            skip_space(nested);
        }
        return all;
    }

    // Nothing: here the sequence ends.
    std::optional<GbnfExpression> item(int depth) {
        const char c = peek();
        if (c == '"') return literal();
        if (c == '[') return character_class();
        if (c == '(') return group(depth);
        if (c == '.') {
            ++at_;
            return GbnfExpression{.kind = Kind::kClass, .ranges = complement({})};
        }
        if (c == '<' || c == '!') {
            fail("tokens in a grammar (<...>) are not supported; write the text itself");
            return std::nullopt;
        }
        if (!is_name(c)) return std::nullopt;
        const std::string_view found = name();
        return GbnfExpression{.kind = Kind::kRule, .rule = rule_id(found)};
    }

    GbnfExpression group(int depth) {
        if (depth >= kDeepest) {
            fail("groups are nested more than " + std::to_string(kDeepest) + " deep");
            return {};
        }
        ++at_;
        skip_space(true);
        GbnfExpression inner = alternatives(true, depth + 1);
        if (failed()) return {};
        if (peek() != ')') {
            fail("a ) is expected");
            return {};
        }
        ++at_;
        return inner;
    }

    GbnfExpression literal() {
        GbnfExpression found{.kind = Kind::kLiteral};
        ++at_;
        while (!failed() && peek() != '"') append_utf8(character(), found.text);
        ++at_;
        return found;
    }

    GbnfExpression character_class() {
        ++at_;
        const bool negated = peek() == '^';
        if (negated) ++at_;
        Ranges ranges;
        while (!failed() && peek() != ']') {
            const std::size_t start = at_;
            const std::uint32_t low = character();
            std::uint32_t high = low;
            if (peek() == '-' && peek(1) != ']') {
                ++at_;
                high = character();
            }
            if (high < low) fail_at(start, "a range of characters goes upwards");
            ranges.emplace_back(low, high);
        }
        ++at_;
        ranges = normalised(std::move(ranges));
        if (negated) ranges = complement(ranges);
        return {.kind = Kind::kClass, .ranges = std::move(ranges)};
    }

    std::uint32_t character() {
        if (at_end()) {
            fail("the grammar ends within quotes or brackets");
            return 0;
        }
        const std::size_t start = at_;
        const std::uint32_t code = peek() == '\\' ? escape() : utf8();
        if (code > kLastCodePoint || (code >= kFirstSurrogate && code <= kLastSurrogate)) {
            fail_at(start, "this is not a character of Unicode");
            return 0;
        }
        return code;
    }

    std::uint32_t escape() {
        const char c = peek(1);
        at_ += 2;
        switch (c) {
            case 'x': return hex(2);
            case 'u': return hex(4);
            case 'U': return hex(8);
            case 't': return '\t';
            case 'r': return '\r';
            case 'n': return '\n';
            case '\\':
            case '"':
            case '[':
            case ']':
            case '-':
            case '^': return static_cast<unsigned char>(c);
            default: fail_at(at_ - 2, R"(unknown escape; \n \r \t \\ \" \[ \] \xHH \uHHHH exist)"); return 0;
        }
    }

    std::uint32_t hex(int digits) {
        std::uint32_t value = 0;
        for (int i = 0; i < digits; ++i) {
            const int digit = hex_digit(peek());
            if (digit < 0) {
                fail(std::to_string(digits) + " hexadecimal digits are expected");
                return 0;
            }
            value = value * 16 + static_cast<std::uint32_t>(digit);
            ++at_;
        }
        return value;
    }

    std::uint32_t utf8() {
        const auto first = static_cast<unsigned char>(peek());
        const int more = first < 0x80 ? 0 : first < 0xC2 ? -1 : first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
        if (more < 0 || first > 0xF4) {
            fail("this is not UTF-8");
            return 0;
        }
        std::uint32_t code = more == 0 ? first : first & (0x3FU >> more);
        for (int i = 1; i <= more; ++i) {
            const auto byte = static_cast<unsigned char>(peek(static_cast<std::size_t>(i)));
            if ((byte & 0xC0) != 0x80) {
                fail("this is not UTF-8");
                return 0;
            }
            code = code << 6 | (byte & 0x3F);
        }
        at_ += static_cast<std::size_t>(more) + 1;
        return code;
    }

    std::uint32_t number() {
        std::uint32_t value = 0;
        if (!is_digit(peek())) fail("a number is expected");
        while (is_digit(peek())) {
            value = value * 10 + static_cast<std::uint32_t>(peek() - '0');
            if (value > kMostRepeats) fail("more than " + std::to_string(kMostRepeats) + " repetitions");
            ++at_;
        }
        skip_space(false);
        return value;
    }

    void repeat(GbnfExpression& sequence) {
        if (sequence.parts.empty()) return fail("there is nothing before this that could be repeated");
        GbnfExpression found{.kind = Kind::kRepeat, .most = GbnfExpression::kUnbounded};
        const char c = peek();
        ++at_;
        if (c == '+') found.least = 1;
        if (c == '?') found.most = 1;
        if (c == '{') {
            skip_space(false);
            found.least = number();
            found.most = found.least;
            if (peek() == ',') {
                ++at_;
                skip_space(false);
                found.most = peek() == '}' ? GbnfExpression::kUnbounded : number();
            }
            if (peek() != '}') return fail("a } is expected");
            ++at_;
            if (found.most < found.least) return fail("{n,m} needs n <= m");
        }
        int depth = 0;
        for (const GbnfExpression* one = &sequence.parts.back(); one->kind == Kind::kRepeat;
             one = &one->parts.front()) {
            if (++depth >= kMostStacked) return fail("too many repetitions of one thing");
        }
        found.parts.push_back(std::move(sequence.parts.back()));
        sequence.parts.back() = std::move(found);
    }

    std::string_view text_;
    std::size_t at_ = 0;
    std::optional<std::string> error_;
    GbnfRules rules_;
    std::vector<bool> defined_;
    std::vector<std::size_t> named_at_;
};

}  // namespace

Result<GbnfRules> parse_gbnf(std::string_view text) { return Parser(text).parse(); }

}  // namespace syncyte
