// The text of a GBNF grammar as a tree.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace syncyte {

// What one rule says, or a part of it.
struct GbnfExpression {
    enum class Kind : std::uint8_t { kLiteral, kClass, kRule, kSequence, kAlternatives, kRepeat };
    static constexpr std::uint32_t kUnbounded = ~std::uint32_t{0};

    Kind kind = Kind::kSequence;
    std::string text{};                                             // kLiteral: UTF-8
    std::vector<std::pair<std::uint32_t, std::uint32_t>> ranges{};  // kClass: code points, sorted, apart
    std::uint32_t rule = 0;                                         // kRule
    std::vector<GbnfExpression> parts{};  // kSequence, kAlternatives; of kRepeat the one
    std::uint32_t least = 0;              // kRepeat
    std::uint32_t most = 0;               // kRepeat; kUnbounded: any number
};

struct GbnfRules {
    std::vector<GbnfExpression> bodies;
    std::vector<std::string> names;  // beside the bodies
    std::map<std::string, std::uint32_t, std::less<>> ids;
};

// kInvalidArgument with line and column. Every rule that is named is defined, `root` among them; groups are
// nested at most a few hundred deep.
Result<GbnfRules> parse_gbnf(std::string_view text);

}  // namespace syncyte
