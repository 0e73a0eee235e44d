#include "engine/grammar.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>

#include "engine/gbnf_parser.h"

namespace syncyte {

namespace {

using Kind = Grammar::Kind;
using NodeId = std::uint32_t;

constexpr std::size_t kMostNodes = 1'000'000;
constexpr NodeId kNone = ~NodeId{0};

// The UTF-8 forms of the code points low to high as sequences of byte ranges.
struct ByteRanges {
    int length = 0;
    std::array<std::pair<std::uint8_t, std::uint8_t>, 4> bytes{};
};

std::array<std::uint8_t, 4> encode(std::uint32_t code, int length) {
    std::array<std::uint8_t, 4> bytes{};
    constexpr std::array<std::uint32_t, 5> kLead = {0, 0, 0xC0, 0xE0, 0xF0};
    for (int i = length - 1; i > 0; --i) {
        bytes[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(0x80 | (code & 0x3F));
        code >>= 6;
    }
    bytes[0] = static_cast<std::uint8_t>(kLead[static_cast<std::size_t>(length)] | code);
    return bytes;
}

void split_aligned(std::uint32_t low, std::uint32_t high, int length, std::vector<ByteRanges>& out) {
    // A range is one sequence when below the first byte that differs every value occurs.
    for (int i = 1; i < length; ++i) {
        const std::uint32_t below = (1U << (6 * i)) - 1;
        if ((low & ~below) == (high & ~below)) continue;
        if ((low & below) != 0) {
            split_aligned(low, low | below, length, out);
            return split_aligned((low | below) + 1, high, length, out);
        }
        if ((high & below) != below) {
            split_aligned(low, (high & ~below) - 1, length, out);
            return split_aligned(high & ~below, high, length, out);
        }
    }
    ByteRanges ranges{.length = length};
    const auto first = encode(low, length);
    const auto last = encode(high, length);
    for (std::size_t i = 0; i < 4; ++i) ranges.bytes[i] = {first[i], last[i]};
    out.push_back(ranges);
}

std::vector<ByteRanges> utf8_ranges(const std::vector<std::pair<std::uint32_t, std::uint32_t>>& code_points) {
    constexpr std::array<std::uint32_t, 4> kLast = {0x7F, 0x7FF, 0xFFFF, 0x10FFFF};
    std::vector<ByteRanges> out;
    for (const auto& [low, high] : code_points) {
        std::uint32_t from = low;
        for (int length = 1; length <= 4; ++length) {
            const std::uint32_t last = kLast[static_cast<std::size_t>(length - 1)];
            if (from > last || from > high) continue;
            split_aligned(from, std::min(high, last), length, out);
            from = last + 1;
        }
    }
    return out;
}

// Builds the graph back to front: each part is made when what follows it is there.
class Builder {
  public:
    explicit Builder(const GbnfRules& rules) : rules_(rules), names_(rules.names) {}

    std::optional<Error> build() {
        grammar_.nodes.emplace_back();
        grammar_.starts.assign(rules_.bodies.size(), kNone);
        for (std::size_t rule = 0; rule < rules_.bodies.size(); ++rule) {
            current_ = static_cast<std::uint32_t>(rule);
            grammar_.starts[rule] = node_of(rules_.bodies[rule], Grammar::kReturnNode);
        }
        grammar_.root = rules_.ids.find("root")->second;
        if (too_large_) return Error(ErrorCode::kInvalidArgument, "the grammar is too large");
        return check();
    }

    Grammar take() { return std::move(grammar_); }

  private:
    NodeId add(Grammar::Node node) {
        if (grammar_.nodes.size() >= kMostNodes) {
            too_large_ = true;
            return Grammar::kReturnNode;
        }
        grammar_.nodes.push_back(node);
        return static_cast<NodeId>(grammar_.nodes.size() - 1);
    }
    NodeId split(NodeId one, NodeId other) {
        return add({.kind = Kind::kSplit, .next = one, .other = other});
    }

    NodeId node_of(const GbnfExpression& expression, NodeId next) {
        if (too_large_) return next;
        switch (expression.kind) {
            case GbnfExpression::Kind::kLiteral: return literal(expression.text, next);
            case GbnfExpression::Kind::kClass: return character_class(expression, next);
            case GbnfExpression::Kind::kRule:
                return add({.kind = Kind::kCall, .next = next, .other = expression.rule});
            case GbnfExpression::Kind::kSequence: {
                for (std::size_t i = expression.parts.size(); i > 0; --i) {
                    next = node_of(expression.parts[i - 1], next);
                }
                return next;
            }
            case GbnfExpression::Kind::kAlternatives: {
                NodeId all = kNone;
                for (std::size_t i = expression.parts.size(); i > 0; --i) {
                    const NodeId one = node_of(expression.parts[i - 1], next);
                    all = all == kNone ? one : split(one, all);
                }
                return all;
            }
            case GbnfExpression::Kind::kRepeat: return repeat(expression, next);
        }
        return next;
    }

    NodeId literal(const std::string& text, NodeId next) {
        for (std::size_t i = text.size(); i > 0; --i) {
            const auto byte = static_cast<std::uint8_t>(text[i - 1]);
            next = add({.kind = Kind::kByte, .low = byte, .high = byte, .next = next});
        }
        return next;
    }

    NodeId character_class(const GbnfExpression& expression, NodeId next) {
        // Sequences that end alike share their ends.
        std::vector<std::pair<Grammar::Node, NodeId>> made;
        const auto byte = [&](std::pair<std::uint8_t, std::uint8_t> range, NodeId then) {
            for (const auto& [node, id] : made) {
                if (node.low == range.first && node.high == range.second && node.next == then) return id;
            }
            const Grammar::Node node{
                .kind = Kind::kByte, .low = range.first, .high = range.second, .next = then};
            made.emplace_back(node, add(node));
            return made.back().second;
        };
        NodeId all = kNone;
        for (const ByteRanges& ranges : utf8_ranges(expression.ranges)) {
            NodeId one = next;
            for (int i = ranges.length; i > 0; --i)
                one = byte(ranges.bytes[static_cast<std::size_t>(i - 1)], one);
            all = all == kNone ? one : split(one, all);
            if (too_large_) return next;
        }
        // An empty class: a byte that none is.
        if (all == kNone) return add({.kind = Kind::kByte, .low = 1, .high = 0, .next = next});
        return all;
    }

    NodeId repeat(const GbnfExpression& expression, NodeId next) {
        const GbnfExpression& body = expression.parts.front();
        const bool unbounded = expression.most == GbnfExpression::kUnbounded;
        std::uint32_t copies = expression.least + (unbounded ? 1 : expression.most - expression.least);
        GbnfExpression call{.kind = GbnfExpression::Kind::kRule};
        const GbnfExpression* each = &body;
        if (copies > 1 && !is_small(body)) {
            call.rule = own_rule(body);
            each = &call;
        }
        NodeId here = next;
        if (unbounded) {
            const NodeId loop = split(next, next);
            const NodeId inner = node_of(*each, loop);
            if (loop != Grammar::kReturnNode) grammar_.nodes[loop].next = inner;
            here = loop;
        } else {
            for (std::uint32_t i = expression.least; i < expression.most && !too_large_; ++i) {
                here = split(node_of(*each, here), next);
            }
        }
        for (std::uint32_t i = 0; i < expression.least && !too_large_; ++i) here = node_of(*each, here);
        return here;
    }

    static bool is_small(const GbnfExpression& body) {
        switch (body.kind) {
            case GbnfExpression::Kind::kRule: return true;
            case GbnfExpression::Kind::kLiteral: return body.text.size() <= 1;
            case GbnfExpression::Kind::kClass: return body.ranges.size() == 1 && body.ranges[0].second < 0x80;
            default: return false;
        }
    }

    std::uint32_t own_rule(const GbnfExpression& body) {
        const auto rule = static_cast<std::uint32_t>(grammar_.starts.size());
        grammar_.starts.push_back(kNone);
        names_.push_back(names_[current_]);
        const NodeId start = node_of(body, Grammar::kReturnNode);
        grammar_.starts[rule] = start;
        return rule;
    }

    std::optional<Error> check() {
        if (auto error = check_left_recursion()) return error;
        mark_what_can_end();
        if (grammar_.nodes[grammar_.starts[grammar_.root]].can_end) return std::nullopt;
        return Error(ErrorCode::kInvalidArgument,
                     "the grammar never ends: no finite text satisfies the rule root");
    }

    // For each rule, those it may call before it has consumed a byte.
    [[nodiscard]] std::vector<std::vector<std::uint32_t>> first_calls() const {
        const auto& nodes = grammar_.nodes;
        std::vector<std::vector<std::uint32_t>> calls(grammar_.starts.size());
        std::vector<bool> empty(grammar_.starts.size(), false);  // the rule may consume nothing
        std::vector<bool> seen(nodes.size(), false);
        std::vector<std::vector<std::pair<NodeId, std::uint32_t>>> waiting(grammar_.starts.size());
        std::vector<std::pair<NodeId, std::uint32_t>> todo;  // a node, and the rule it is of
        todo.reserve(grammar_.starts.size());
        for (std::uint32_t rule = 0; rule < grammar_.starts.size(); ++rule) {
            todo.emplace_back(grammar_.starts[rule], rule);
        }
        while (!todo.empty()) {
            const auto [id, rule] = todo.back();
            todo.pop_back();
            if (id == Grammar::kReturnNode) {
                if (empty[rule]) continue;
                empty[rule] = true;
                for (const auto& [node, caller] : waiting[rule]) todo.emplace_back(nodes[node].next, caller);
                continue;
            }
            if (seen[id]) continue;
            seen[id] = true;
            const Grammar::Node& node = nodes[id];
            if (node.kind == Kind::kSplit) {
                todo.emplace_back(node.next, rule);
                todo.emplace_back(node.other, rule);
            } else if (node.kind == Kind::kCall) {
                calls[rule].push_back(node.other);
                waiting[node.other].emplace_back(id, rule);
                if (empty[node.other]) todo.emplace_back(node.next, rule);
            }
        }
        return calls;
    }

    [[nodiscard]] std::optional<Error> check_left_recursion() const {
        const auto calls = first_calls();
        enum class Mark : std::uint8_t { kNew, kOpen, kDone };
        std::vector<Mark> marks(calls.size(), Mark::kNew);
        std::vector<std::pair<std::uint32_t, std::size_t>> path;  // a rule, and its call to look at next
        for (std::uint32_t rule = 0; rule < calls.size(); ++rule) {
            if (marks[rule] == Mark::kNew) path.emplace_back(rule, 0);
            while (!path.empty()) {
                auto& [at, next] = path.back();
                marks[at] = Mark::kOpen;
                if (next == calls[at].size()) {
                    marks[at] = Mark::kDone;
                    path.pop_back();
                    continue;
                }
                const std::uint32_t called = calls[at][next++];
                if (marks[called] == Mark::kOpen) {
                    return Error(ErrorCode::kInvalidArgument,
                                 "the grammar's rule " + names_[called] +
                                     " begins with itself (left recursion); let it begin with something "
                                     "else, or use * or +");
                }
                if (marks[called] == Mark::kNew) path.emplace_back(called, 0);
            }
        }
        return std::nullopt;
    }

    // From the ends of the rules backwards.
    void mark_what_can_end() {
        auto& nodes = grammar_.nodes;
        std::vector<std::vector<NodeId>> before(nodes.size());
        std::vector<std::vector<NodeId>> callers(grammar_.starts.size());
        std::vector<std::vector<std::uint32_t>> started(nodes.size());  // rules that start here
        for (NodeId id = 1; id < nodes.size(); ++id) {
            const Grammar::Node& node = nodes[id];
            if (node.kind == Kind::kByte && node.low > node.high) continue;
            before[node.next].push_back(id);
            if (node.kind == Kind::kSplit) before[node.other].push_back(id);
            if (node.kind == Kind::kCall) callers[node.other].push_back(id);
        }
        for (std::uint32_t rule = 0; rule < grammar_.starts.size(); ++rule) {
            started[grammar_.starts[rule]].push_back(rule);
        }
        std::vector<NodeId> todo;
        const auto mark = [&](NodeId id) {
            if (std::exchange(nodes[id].can_end, true)) return;
            todo.push_back(id);
        };
        const auto rule_ends = [&](std::uint32_t rule) { return nodes[grammar_.starts[rule]].can_end; };
        mark(Grammar::kReturnNode);
        while (!todo.empty()) {
            const NodeId id = todo.back();
            todo.pop_back();
            for (const NodeId previous : before[id]) {
                if (nodes[previous].kind != Kind::kCall || rule_ends(nodes[previous].other)) mark(previous);
            }
            for (const std::uint32_t rule : started[id]) {
                for (const NodeId call : callers[rule]) {
                    if (nodes[nodes[call].next].can_end) mark(call);
                }
            }
        }
    }

    const GbnfRules& rules_;
    std::vector<std::string> names_;  // of all rules, those made here too
    Grammar grammar_;
    std::uint32_t current_ = 0;
    bool too_large_ = false;
};

}  // namespace

Result<std::shared_ptr<const Grammar>> parse_grammar(std::string_view text) {
    Result<GbnfRules> rules = parse_gbnf(text);
    if (!rules) return std::unexpected(std::move(rules.error()));
    Builder builder(*rules);
    if (std::optional<Error> error = builder.build()) return std::unexpected(std::move(*error));
    return std::make_shared<const Grammar>(builder.take());
}

}  // namespace syncyte
