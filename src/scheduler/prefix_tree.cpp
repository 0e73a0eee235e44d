#include "scheduler/prefix_tree.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "scheduler/common_beginning.h"

namespace syncyte {

namespace {

// Shorter common beginnings are not worth a dependency: a begin-of-sequence token and an article would tie
// every sequence to every other.
constexpr std::size_t kLeastShared = 16;

// Fewer tokens, of a text whose beginning stays, are computed anew nearly as fast as they are saved and
// brought back.
constexpr std::size_t kLeastParked = 128;

// Steps after which what ended leaves the cache: those who go on with it at once find it there. Attention
// goes past it in every row of every step, which in so many steps takes longer than saving it and bringing it
// back.
constexpr std::uint64_t kLinger = 8;

// Rows of others after which a text that stays in the cache has cost them about as much as saving it and
// bringing it back does. Of 1,000 cells of a 0.3 B model: 1.8 ms in each row of an answer, 0.2 in one of a
// prompt, about 30 for bringing them back, and saving taken for the same. Who waits for so long before acting
// pays about twice what it had to at most.
constexpr double kInTheWay = 40;
constexpr double kPromptRow = 0.1;  // of a row of an answer, which no tile shares
// Fewer cells in the way of one that runs alone are not worth a pause.
constexpr std::size_t kWorthMoving = 256;

// What a paused sequence gives up at once: whoever needs one cell soon needs the next.
constexpr std::int32_t kShrinkStep = 32;

// Cells that may hold what nobody has begun with yet. Attention looks at every cell up to the last one in
// use, so old cells are not free.
std::int32_t unproven_limit(std::int32_t cells) {
    constexpr std::int32_t kAlways = 256;
    return std::min(cells / 4, std::max(cells / 16, kAlways));
}

// The last token is computed anew: its logits are needed.
std::span<const Token> but_last(std::span<const Token> tokens) { return tokens.first(tokens.size() - 1); }

}  // namespace

PrefixTree::PrefixTree(Context& context, std::int32_t sequences, std::int32_t cells, Sharing sharing)
    : context_(context), cells_(cells), sharing_(sharing), parked_(static_cast<std::size_t>(cells)) {
    for (SequenceId id = sequences; id-- > 0;) free_ids_.push_back(id);
}

PrefixTree::Match PrefixTree::longest(const Wanted& wanted) const {
    Match best;
    if (sharing_ == Sharing::kNo) return best;
    for (const auto& node : nodes_) {
        if (node->salt != wanted.salt) continue;
        const std::size_t length = common_beginning(but_last(wanted.tokens), node->tokens);
        if (length >= kLeastShared && length > best.length) best = {node.get(), length};
    }
    if (best.node != nullptr) best.node = owner(best.node, best.length);
    return best;
}

// Of what a sequence shares itself, the owner is the parent.
PrefixTree::Node* PrefixTree::owner(Node* node, std::size_t length) {
    while (node->parent != nullptr && length <= node->shared) node = node->parent;
    return node;
}

const PrefixTree::Node* PrefixTree::worth_waiting(const Wanted& wanted) const {
    if (sharing_ == Sharing::kNo || held(wanted.hold) != nullptr) return nullptr;
    const std::size_t now = longest(wanted).length;
    const auto found = std::ranges::find_if(nodes_, [&](const auto& node) {
        if (node->planned.empty() || node->salt != wanted.salt) return false;
        const std::size_t soon = common_beginning(but_last(wanted.tokens), node->planned);
        return soon >= kLeastShared && soon > now && node->tokens.size() < node->planned.size();
    });
    return found == nodes_.end() ? nullptr : found->get();
}

PrefixTree::Node* PrefixTree::held(std::uint64_t hold) const {
    if (hold == 0) return nullptr;
    const auto found = std::ranges::find(nodes_, hold, [](const auto& node) { return node->hold; });
    return found == nodes_.end() ? nullptr : found->get();
}

PrefixTree::Node* PrefixTree::begin(const Wanted& wanted) {
    if (Node* node = held(wanted.hold)) return resume(node, wanted);
    Match match = longest(wanted);
    while (sharing_ == Sharing::kYes && bring_back(wanted, match)) match = longest(wanted);
    if (sharing_ == Sharing::kCopies) {
        if (Node* node = copy(wanted, match)) return resume(node, wanted);
        match = longest(wanted);
        if (!ends_at(match)) match = {};
    }
    if (ends_at(match)) {
        trim(match.node, match.length);
        match.node->proven = true;
        return resume(match.node, wanted);
    }
    const auto cells = static_cast<std::int32_t>(wanted.tokens.size() - match.length);
    if (!make_room(cells, wanted.headroom, NewId::kYes, match)) return nullptr;
    auto node = std::make_unique<Node>();
    node->id = take_id();
    node->planned.assign_range(wanted.tokens);
    node->salt = wanted.salt;
    node->cells = cells;
    node->gathered = wanted.tokens.size();
    node->running = true;
    if (match.node != nullptr) {
        node->tokens.assign_range(wanted.tokens.first(match.length));
        become_child(*node, match);
    }
    running_cells_ += cells;
    nodes_.push_back(std::move(node));
    return nodes_.back().get();
}

// An empty sequence begins with what matches.
void PrefixTree::become_child(Node& node, const Match& match) {
    context_.fork(match.node->id, node.id, static_cast<Position>(match.length));
    node.parent = match.node;
    node.shared = match.length;
    ++match.node->children;
    match.node->proven = true;
    match.node->last_used = ++clock_;
}

// Saves the tokens of `node` from `from` on, which are about to leave, if they are many enough.
PrefixTree::Saved PrefixTree::park(const Node& node, std::size_t from) {
    const std::size_t least = from == 0 ? kLeastShared : kLeastParked;
    if (node.tokens.size() < from + least) return Saved::kNotWorthIt;
    if (parked_.covers({node.tokens, node.salt, from})) return Saved::kBefore;
    if (closed_) return Saved::kNo;
    std::vector<std::uint8_t> state = context_.save(node.id, static_cast<Position>(from));
    if (state.empty()) return Saved::kNo;
    parked_.add({.tokens = node.tokens, .salt = node.salt, .from = from, .state = std::move(state)});
    return Saved::kNow;
}

// A sequence that does not run, of the first `length` tokens of a text that was saved. What was not saved of
// it, `base` has. There are a free id and cells for what was. nullptr: the context could not take it;
// otherwise only the text's state is left.
PrefixTree::Node* PrefixTree::keep(ParkedTexts::Text& text, Node* base, std::size_t length) {
    auto node = std::make_unique<Node>();
    node->id = take_id();
    if (text.from > 0) become_child(*node, {owner(base, text.from), text.from});
    if (!context_.restore(node->id, static_cast<Position>(text.from), text.state)) {
        context_.erase(node->id, 0);
        if (node->parent != nullptr) --node->parent->children;
        free_ids_.push_back(node->id);
        return nullptr;
    }
    node->tokens = std::move(text.tokens);
    node->salt = std::move(text.salt);
    node->cells = static_cast<std::int32_t>(node->tokens.size() - node->shared);
    node->gathered = node->tokens.size();
    node->last_used = ++clock_;
    node->proven = true;
    kept_cells_ += node->cells;
    trim(node.get(), length);
    nodes_.push_back(std::move(node));
    return nodes_.back().get();
}

// A sequence with what is wanted of a saved text, or of the matching one where that goes on otherwise, which
// stays as it is. nullptr: there is nothing to copy, or no id.
PrefixTree::Node* PrefixTree::copy(const Wanted& wanted, const Match& match) {
    const std::span<const Token> tokens = but_last(wanted.tokens);
    ParkedTexts::Text text;
    if (const auto* saved = parked_.find({tokens, wanted.salt}, match.length + kLeastShared)) {
        text = *saved;
    } else if (match.node != nullptr && !ends_at(match)) {
        text = {.tokens = match.node->tokens,
                .salt = match.node->salt,
                .state = context_.save(match.node->id, 0)};
    }
    if (text.state.empty()) return nullptr;
    const auto cells = static_cast<std::int32_t>(text.tokens.size());
    if (!make_room(cells, 0, NewId::kYes, {})) return nullptr;
    const std::size_t length = common_beginning(tokens, text.tokens);
    return keep(text, nullptr, length);
}

// Puts a text that had left into the cache again, if it begins as wanted, and far further than the match, and
// there is room for it and for the rest of what is wanted.
bool PrefixTree::bring_back(const Wanted& wanted, const Match& match) {
    const std::span<const Token> tokens = but_last(wanted.tokens);
    auto text = parked_.take({tokens, wanted.salt, match.length},
                             match.length + (match.node == nullptr ? kLeastShared : kLeastParked));
    if (!text) return false;
    const std::size_t length = common_beginning(tokens, text->tokens);
    const auto cells = static_cast<std::int32_t>(text->tokens.size() - text->from);
    const auto rest = static_cast<std::int32_t>(wanted.tokens.size() - length);
    if (make_room(cells, rest + wanted.headroom, NewId::kYes, match)) {
        if (keep(*text, match.node, text->tokens.size()) != nullptr) return true;
    }
    parked_.add(std::move(*text));
    return false;
}

// Where neighbours are wanted: the free id that is nearest to those who run.
SequenceId PrefixTree::take_id() {
    auto taken = free_ids_.end() - 1;
    if (context_.wants_neighbours()) {
        const IdRange range = running_ids();
        const auto distance = [range](SequenceId id) {
            return range.count == 0 ? id : std::max({range.first - id, id - range.last, 0});
        };
        taken = std::ranges::min_element(free_ids_, {}, distance);
    }
    const SequenceId id = *taken;
    free_ids_.erase(taken);
    return id;
}

PrefixTree::IdRange PrefixTree::running_ids() const {
    IdRange range;
    for (const auto& node : nodes_) {
        if (!node->running) continue;
        range.first = range.count == 0 ? node->id : std::min(range.first, node->id);
        range.last = std::max(range.last, node->id);
        ++range.count;
    }
    return range;
}

// The outermost goes to the first free place between the others, until there is none.
void PrefixTree::close_gaps() {
    if (!context_.wants_neighbours()) return;
    while (true) {
        const IdRange range = running_ids();
        if (range.last - range.first + 1 <= range.count) return;
        const auto between = [range](SequenceId id) { return id > range.first && id < range.last; };
        const auto gap = std::ranges::find_if(free_ids_, between);
        if (gap == free_ids_.end()) {
            const auto idle = std::ranges::find_if(
                nodes_, [&](const auto& node) { return !node->running && between(node->id); });
            if (sharing_ != Sharing::kCopies || idle == nodes_.end()) return;
            park(**idle, 0);
            remove(idle->get());
            continue;
        }
        const auto last = std::ranges::find_if(
            nodes_, [range](const auto& node) { return node->running && node->id == range.last; });
        if (!(*last)->tokens.empty()) context_.rename(range.last, *gap);
        std::swap((*last)->id, *gap);
    }
}

// Whether the matching sequence is idle and has little more than what matches, as the last turn of a
// conversation: the end of an answer may be cut into tokens in another way when it comes back as text.
bool PrefixTree::ends_at(const Match& match) {
    if (match.node == nullptr) return false;
    const Node& node = *match.node;
    const bool idle = !node.running && !node.pinned && node.hold == 0 && node.children == 0;
    return idle && match.length + kLeastShared > node.tokens.size();
}

PrefixTree::Node* PrefixTree::resume(Node* node, const Wanted& wanted) {
    const auto cells = static_cast<std::int32_t>(wanted.tokens.size() - node->tokens.size());
    if (!make_room(cells, wanted.headroom, NewId::kNo, {node, node->tokens.size()})) return nullptr;
    node->hold = 0;
    node->running = true;
    node->planned.assign_range(wanted.tokens);
    kept_cells_ -= node->cells;
    node->cells += cells;
    running_cells_ += node->cells;
    return node;
}

bool PrefixTree::extend(Node* node) {
    if (node->tokens.size() >= node->planned.size()) node->planned.clear();
    if (std::cmp_less(node->tokens.size() - node->shared, node->cells)) return true;
    if (!make_room(1, 0, NewId::kNo, {node, node->tokens.size()})) return false;
    ++node->cells;
    ++running_cells_;
    return true;
}

std::size_t PrefixTree::unshared(const Node* node) const {
    note_needed();
    return node->needed;
}

std::size_t PrefixTree::cells_seen(std::span<Node* const> nodes) const {
    for (const auto& node : nodes_) node->seen = 0;
    for (Node* node : nodes) {
        for (std::size_t length = node->tokens.size(); node != nullptr; node = node->parent) {
            node->seen = std::max(node->seen, length);
            length = std::min(length, node->shared);
        }
    }
    std::size_t cells = 0;
    for (const auto& node : nodes_) cells += node->seen - std::min(node->seen, node->shared);
    return cells;
}

std::int32_t PrefixTree::pinned_cells(Node* with) const {
    std::vector<Node*> pinned;
    if (with != nullptr) pinned.push_back(with);
    for (const auto& node : nodes_) {
        if (node->pinned) pinned.push_back(node.get());
    }
    return pinned.empty() ? 0 : static_cast<std::int32_t>(cells_seen(pinned));
}

std::vector<std::span<const Token>> PrefixTree::texts(const Node* besides) const {
    std::vector<std::span<const Token>> found;
    if (sharing_ == Sharing::kNo) return found;
    for (const auto& node : nodes_) {
        if (node.get() != besides && node->salt == besides->salt) found.emplace_back(node->tokens);
    }
    parked_.list(besides->salt, found);
    return found;
}

// An id if asked for, `cells` cells, and `headroom` more, at the cost of what does not run. Of the spared one
// so many first tokens stay.
bool PrefixTree::make_room(std::int32_t cells, std::int32_t headroom, NewId id, const Match& spared) {
    // What runs stays: then nothing is gained by dropping the rest.
    const std::int32_t wanted = cells + headroom;
    if (running_cells_ + wanted > cells_) return false;
    const auto missing = [&] { return running_cells_ + kept_cells_ + wanted - cells_; };
    const auto enough = [&] { return (id == NewId::kNo || !free_ids_.empty()) && missing() <= 0; };
    const auto shrink = [&] {
        return shrink_held(spared, free_ids_.empty() && id == NewId::kYes ? cells_ : missing());
    };
    // What a paused one has shared may be a leaf when that one has gone.
    while (!enough() && (evict_leaf(spared.node) || trim_unneeded(spared) || shrink())) {
    }
    return enough();
}

bool PrefixTree::evict() { return evict_leaf(nullptr) || trim_unneeded({}) || shrink_held({}, kShrinkStep); }

// The leaf that has not been used for longest.
PrefixTree::Node* PrefixTree::oldest_leaf(const Node* spared) const {
    Node* oldest = nullptr;
    for (const auto& node : nodes_) {
        if (node->running || node->pinned || node->hold != 0) continue;
        if (node->children > 0 || node.get() == spared) continue;
        if (oldest == nullptr || node->last_used < oldest->last_used) oldest = node.get();
    }
    return oldest;
}

bool PrefixTree::evict_leaf(const Node* spared) {
    Node* leaf = oldest_leaf(spared);
    if (leaf == nullptr) return false;
    // Its ancestors follow it soon, where they have no other child.
    const Node* first = leaf;
    const auto follows = [](const Node& node) {
        return node.children == 1 && !node.running && !node.pinned && node.hold == 0;
    };
    while (first->parent != nullptr && follows(*first->parent)) first = first->parent;
    park(*leaf, first->shared);
    ++evictions_;
    remove(leaf);
    return true;
}

// How much of each node its children and its own sharing need.
void PrefixTree::note_needed() const {
    for (const auto& node : nodes_) node->needed = node->shared;
    for (const auto& node : nodes_) {
        if (node->parent != nullptr) node->parent->needed = std::max(node->parent->needed, node->shared);
    }
}

// Those parts of kept sequences that no child and not the spared match needs.
bool PrefixTree::trim_unneeded(const Match& spared) {
    const std::int32_t before = kept_cells_;
    note_needed();
    for (const auto& node : nodes_) {
        if (node->running || node->pinned || node->hold != 0) continue;
        trim(node.get(), node.get() == spared.node ? std::max(node->needed, spared.length) : node->needed);
    }
    if (kept_cells_ == before) return false;
    ++evictions_;
    return true;
}

// The end of the sequence that has been paused for longest. Of the spared one so many first tokens stay.
bool PrefixTree::shrink_held(const Match& spared, std::int32_t cells) {
    note_needed();
    Node* oldest = nullptr;
    std::size_t least = 0;
    for (const auto& node : nodes_) {
        if (node->hold == 0 || node->pinned) continue;
        const bool stays = node->children > 0 || node.get() == spared.node;
        const std::size_t needed =
            node.get() == spared.node ? std::max(node->needed, spared.length) : node->needed;
        if (stays && (needed >= node->tokens.size() || sharing_ == Sharing::kNo)) continue;
        if (oldest != nullptr && node->last_used >= oldest->last_used) continue;
        oldest = node.get();
        least = needed;
    }
    if (oldest == nullptr) return false;
    ++evictions_;
    const auto step = static_cast<std::size_t>(std::max(cells, kShrinkStep));
    const std::size_t size = oldest->tokens.size();
    const std::size_t length = size > least + step ? size - step : least;
    const bool may_go = oldest->children == 0 && oldest != spared.node;
    if (may_go && (sharing_ == Sharing::kNo || length <= oldest->shared)) {
        if (sharing_ != Sharing::kNo) park(*oldest, oldest->shared);
        remove(oldest);
    } else {
        trim(oldest, length);
    }
    return true;
}

void PrefixTree::trim(Node* node, std::size_t length) {
    if (length >= node->tokens.size() || length < node->shared) return;
    context_.erase(node->id, static_cast<Position>(length));
    node->gathered = std::min(node->gathered, length);
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

void PrefixTree::stop(Node* node) {
    check(node->running, "a sequence ends once");
    node->running = false;
    node->planned.clear();
    running_cells_ -= node->cells;
    node->cells = static_cast<std::int32_t>(node->tokens.size() - node->shared);
    kept_cells_ += node->cells;
    node->last_used = ++clock_;
    node->idle_since = steps_;
    node->idle_from = rows_;
}

void PrefixTree::end(Node* node) {
    stop(node);
    const bool worthless = sharing_ == Sharing::kNo || node->tokens.size() < node->shared + kLeastShared;
    if (worthless && node->children == 0 && !node->pinned) {
        remove(node);
    } else if (sharing_ == Sharing::kYes) {
        bound_unproven();
    }
}

std::uint64_t PrefixTree::pause(Node* node) {
    stop(node);
    node->hold = ++last_hold_;
    return node->hold;
}

void PrefixTree::release(std::uint64_t hold) {
    Node* node = held(hold);
    if (node == nullptr) return;
    node->hold = 0;
    if (node->children == 0 && sharing_ == Sharing::kNo) {
        remove(node);
    } else if (sharing_ == Sharing::kYes) {
        bound_unproven();
    }
}

void PrefixTree::pin(Node* node) {
    node->pinned = true;
    node->proven = true;
}

void PrefixTree::unpin(Node* node) {
    node->pinned = false;
    node->last_used = ++clock_;
}

// Nobody has begun with it.
bool PrefixTree::unproven(const Node& node) {
    return !node.running && !node.proven && !node.pinned && node.hold == 0 && node.children == 0;
}

// What can leave of a text that has not run for `linger` steps: all that nobody else needs. Of a leaf the
// ancestors leave with it that have no other child. After note_needed().
PrefixTree::Leaving PrefixTree::leaving(Node& node, std::uint64_t linger) const {
    const auto in_use = [&](const Node& one) {
        return one.running || one.pinned || one.hold != 0 || steps_ - one.idle_since <= linger;
    };
    if (in_use(node)) return {};
    Leaving found{.last = &node, .from = node.needed};
    if (node.children == 0) {
        const Node* first = &node;
        while (first->parent != nullptr && first->parent->children == 1 && !in_use(*first->parent)) {
            first = first->parent;
        }
        found.from = first->shared;
    }
    if (found.from > 0 && found.cells() < kLeastParked) return {};
    return found;
}

// Whether it has cost those who ran since it ended more than it would to save it and bring it back.
bool PrefixTree::in_the_way(const Leaving& text) const {
    return rows_ - text.last->idle_from >= kInTheWay && takes(text);
}

// Whether it can be saved without another being lost.
bool PrefixTree::takes(const Leaving& text) const {
    return parked_.takes({text.last->tokens, text.last->salt, text.from});
}

void PrefixTree::note_rows(std::size_t decoding, std::size_t prompt) {
    rows_ += static_cast<double>(decoding) + kPromptRow * static_cast<double>(prompt);
}

// Each of a chain is saved: who was begun with may have gone on otherwise. False: it cannot be saved, so it
// stays.
bool PrefixTree::leave(const Leaving& text) {
    Node* last = text.last;
    while (true) {
        if (park(*last, text.from) == Saved::kNo) return last != text.last;
        const std::int32_t before = kept_cells_;
        const bool goes_on = last->children == 0 && last->shared > text.from;
        if (last->children > 0) {
            trim(last, text.from);
        } else {
            remove(std::exchange(last, last->parent));
        }
        for (const auto& node : nodes_) node->passed += before - kept_cells_;
        if (!goes_on) return true;
    }
}

bool PrefixTree::tidy(std::size_t running) {
    ++steps_;
    if (sharing_ != Sharing::kYes) return false;
    note_needed();
    if (running == 1) return make_way();
    for (const auto& node : nodes_) {
        const Leaving text = leaving(*node, running == 0 ? 0 : kLinger);
        if (text.last == nullptr) continue;
        const bool may_go = running == 0 ? (unproven(*node) && node->shared == 0) || in_the_way(text)
                                         : text.from == 0 || takes(text);
        if (may_go && leave(text)) return true;
    }
    return false;
}

// Beside one that runs alone. Who others began with stands before them in nodes_, so what is to leave of it
// leaves before those take all of it with them.
bool PrefixTree::make_way() {
    const auto lone = std::ranges::find_if(nodes_, [](const auto& node) { return node->running; });
    if (lone == nodes_.end()) return false;
    Node& staying = **lone;
    std::vector<Leaving> texts;
    auto cells = static_cast<std::size_t>(staying.passed);
    for (const auto& node : nodes_) {
        const Leaving text = leaving(*node, 0);
        if (text.last == nullptr || !in_the_way(text)) continue;
        texts.push_back(text);
        cells += text.cells();
    }
    const std::size_t worth_it = std::max(kWorthMoving, staying.tokens.size() - staying.shared);
    if (cells < worth_it) return false;
    for (const Leaving& text : texts) {
        if (park(*text.last, text.from) == Saved::kNow) return true;
    }
    bool left = false;
    for (const Leaving& text : texts) left |= leave(text);
    if (std::cmp_less(staying.passed, worth_it)) return left;
    staying.passed = 0;
    note_needed();
    if (staying.tokens.size() > staying.needed &&
        context_.gather(staying.id, static_cast<Position>(staying.needed))) {
        staying.gathered = staying.tokens.size();
    }
    return true;
}

void PrefixTree::bound_unproven() {
    while (true) {
        std::int32_t cells = 0;
        Node* oldest = nullptr;
        for (const auto& node : nodes_) {
            if (!unproven(*node)) continue;
            cells += node->cells;
            if (oldest == nullptr || node->last_used < oldest->last_used) oldest = node.get();
        }
        if (cells <= unproven_limit(cells_) || oldest == nullptr) return;
        park(*oldest, oldest->shared);
        remove(oldest);
    }
}

void PrefixTree::close() {
    closed_ = true;
    parked_.clear();
}

void PrefixTree::clear() {
    for (const auto& node : nodes_) {
        node->pinned = false;
        node->hold = 0;
    }
    while (Node* leaf = oldest_leaf(nullptr)) remove(leaf);
    parked_.clear();
}

PrefixTree::Cells PrefixTree::cells() const {
    Cells sum;
    note_needed();
    for (const auto& node : nodes_) {
        const auto own = static_cast<std::int32_t>(node->tokens.size() - node->shared);
        sum.used += own;
        sum.shared += static_cast<std::int32_t>(node->needed - node->shared);
    }
    sum.pinned = pinned_cells();
    sum.free = cells_ - sum.used;
    return sum;
}

}  // namespace syncyte
