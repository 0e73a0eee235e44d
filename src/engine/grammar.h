// A grammar in GBNF, llama.cpp's notation, compiled to a graph over bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace syncyte {

// A recursive transition network: the nodes of each rule lead from its start to kReturn. Immutable.
struct Grammar {
    enum class Kind : std::uint8_t {
        kReturn,  // the rule is complete
        kByte,    // one byte from low to high, then next
        kSplit,   // next, or other
        kCall,    // the rule `other`, then next
    };
    struct Node {
        Kind kind = Kind::kReturn;
        std::uint8_t low = 0;
        std::uint8_t high = 0;
        bool can_end = false;  // some finite text leads from here to the end of the rule
        std::uint32_t next = 0;
        std::uint32_t other = 0;
    };
    static constexpr std::uint32_t kReturnNode = 0;  // shared by all rules

    std::vector<Node> nodes;
    std::vector<std::uint32_t> starts;  // of the rules
    std::uint32_t root = 0;             // the rule named "root"
};

// Literals, character classes, `.`, groups, `|`, `* + ? {n,m}`, comments, rules by name; the rule `root` is
// the whole text. kInvalidArgument, with line and column where there is one: wrong syntax, unknown names, a
// rule that begins with itself (left recursion), a root that no finite text satisfies, a grammar out of all
// proportion. Time and memory are bounded by the size of the text and of the numbers in {n,m}. Any thread.
Result<std::shared_ptr<const Grammar>> parse_grammar(std::string_view text);

}  // namespace syncyte
