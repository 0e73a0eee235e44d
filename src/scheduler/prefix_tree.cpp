#include "scheduler/prefix_tree.h"

#include <algorithm>

#include "base/check.h"

namespace syncyte {

namespace {

// Shorter common beginnings are not worth a dependency: a begin-of-sequence token and an article would tie
// every sequence to every other.
constexpr std::size_t kLeastShared = 16;

// Cells that may hold what nobody has begun with yet. Attention looks at every cell up to the last one in
// use, so old cells are not free.
std::int32_t unproven_limit(std::int32_t cells) {
    constexpr std::int32_t kAlways = 256;
    return std::min(cells / 4, std::max(cells / 16, kAlways));
}

std::size_t common(std::span<const Token> a, std::span<const Token> b) {
    return static_cast<std::size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

}  // namespace

PrefixTree::PrefixTree(Context& context, std::int32_t sequences, std::int32_t cells, Sharing sharing)
    : context_(context), cells_(cells), sharing_(sharing) {
    for (SequenceId id = sequences; id-- > 0;) free_ids_.push_back(id);
}

PrefixTree::Match PrefixTree::longest(std::span<const Token> prompt) const {
    Match best;
    if (sharing_ == Sharing::kNo) return best;
    for (const auto& node : nodes_) {
        // The last token of the prompt is computed anew: its logits are needed.
        const std::size_t length = common(prompt.first(prompt.size() - 1), node->tokens);
        if (length >= kLeastShared && length > best.length) best = {node.get(), length};
    }
    // Of what that one shares itself, the owner is the parent.
    while (best.node != nullptr && best.node->parent != nullptr && best.length <= best.node->shared) {
        best.node = best.node->parent;
    }
    return best;
}

bool PrefixTree::worth_waiting(std::span<const Token> prompt) const {
    if (sharing_ == Sharing::kNo) return false;
    const std::size_t now = longest(prompt).length;
    return std::ranges::any_of(nodes_, [&](const auto& node) {
        if (!node->running || node->tokens.size() >= node->prompt.size()) return false;
        const std::size_t soon = common(prompt.first(prompt.size() - 1), node->prompt);
        return soon >= kLeastShared && soon > now;
    });
}

PrefixTree::Node* PrefixTree::begin(std::span<const Token> prompt, std::size_t length) {
    const Match match = longest(prompt);
    const auto cells = static_cast<std::int32_t>(length - match.length);
    if (!make_room(cells, match)) return nullptr;
    auto node = std::make_unique<Node>();
    node->id = free_ids_.back();
    free_ids_.pop_back();
    node->prompt = prompt;
    node->cells = cells;
    node->running = true;
    if (match.node != nullptr) {
        context_.fork(match.node->id, node->id, static_cast<Position>(match.length));
        node->parent = match.node;
        node->shared = match.length;
        node->tokens.assign(prompt.begin(), prompt.begin() + static_cast<std::ptrdiff_t>(match.length));
        ++match.node->children;
        match.node->proven = true;
        match.node->last_used = ++clock_;
    }
    running_cells_ += cells;
    nodes_.push_back(std::move(node));
    return nodes_.back().get();
}

// An id and `cells` cells, at the cost of what does not run; the matched part stays.
bool PrefixTree::make_room(std::int32_t cells, const Match& match) {
    // What runs stays: then nothing is gained by dropping the rest.
    if (running_cells_ + cells > cells_) return false;
    const auto enough = [&] { return !free_ids_.empty() && running_cells_ + kept_cells_ + cells <= cells_; };
    while (!enough() && evict_one(match.node)) {
    }
    if (enough() || match.node == nullptr || match.node->running) return enough();
    // The last resort: those parts of kept sequences that no child and not this match needs.
    for (const auto& node : nodes_) {
        if (node->running) continue;
        std::size_t needed = node.get() == match.node ? match.length : 0;
        for (const auto& child : nodes_) {
            if (child->parent == node.get()) needed = std::max(needed, child->shared);
        }
        trim(node.get(), needed);
    }
    return enough();
}

// The leaf that has not been used for longest.
bool PrefixTree::evict_one(const Node* spared) {
    Node* oldest = nullptr;
    for (const auto& node : nodes_) {
        if (node->running || node->children > 0 || node.get() == spared) continue;
        if (oldest == nullptr || node->last_used < oldest->last_used) oldest = node.get();
    }
    if (oldest == nullptr) return false;
    remove(oldest);
    return true;
}

void PrefixTree::trim(Node* node, std::size_t length) {
    if (length >= node->tokens.size() || length < node->shared) return;
    context_.erase(node->id, static_cast<Position>(length));
    const auto freed = static_cast<std::int32_t>(node->tokens.size() - length);
    node->tokens.resize(length);
    node->cells -= freed;
    kept_cells_ -= freed;
}

void PrefixTree::remove(Node* node) {
    check(!node->running && node->children == 0, "a leaf that does not run");
    context_.erase(node->id, 0);
    free_ids_.push_back(node->id);
    kept_cells_ -= node->cells;
    if (node->parent != nullptr) --node->parent->children;
    std::erase_if(nodes_, [node](const auto& one) { return one.get() == node; });
}

void PrefixTree::end(Node* node) {
    check(node->running, "a sequence ends once");
    node->running = false;
    node->prompt = {};
    running_cells_ -= node->cells;
    node->cells = static_cast<std::int32_t>(node->tokens.size() - node->shared);
    kept_cells_ += node->cells;
    node->last_used = ++clock_;
    const bool worthless = sharing_ == Sharing::kNo || node->tokens.size() < node->shared + kLeastShared;
    if (worthless && node->children == 0) {
        remove(node);
    } else {
        bound_unproven();
    }
}

void PrefixTree::bound_unproven() {
    const auto unproven = [](const auto& node) {
        return !node->running && !node->proven && node->children == 0;
    };
    while (true) {
        std::int32_t cells = 0;
        Node* oldest = nullptr;
        for (const auto& node : nodes_) {
            if (!unproven(node)) continue;
            cells += node->cells;
            if (oldest == nullptr || node->last_used < oldest->last_used) oldest = node.get();
        }
        if (cells <= unproven_limit(cells_) || oldest == nullptr) return;
        remove(oldest);
    }
}

void PrefixTree::clear() {
    while (evict_one(nullptr)) {
    }
}

}  // namespace syncyte
