#include "engine/grammar_machine.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

namespace syncyte {

namespace {

using Kind = Grammar::Kind;

// A state costs 1 KiB and its places; a machine stays within some 30 MB.
constexpr std::size_t kMostStates = 16'384;
constexpr std::size_t kMostPlaces = 2'000'000;
constexpr std::size_t kMostFrames = 500'000;
constexpr std::size_t kMostMasks = 512;
// Of one step, so that the engine thread is never held for long: far above what sensible grammars need.
constexpr std::size_t kMostReached = 50'000;
constexpr std::size_t kMostWork = 4'000'000;
constexpr std::uint64_t kNothing = ~std::uint64_t{0};

std::uint64_t mixed(std::uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
    return x ^ (x >> 31);
}

constexpr std::uint64_t place_of(std::uint32_t node, std::uint32_t frame) {
    return std::uint64_t{node} << 32 | frame;
}

}  // namespace

GrammarMachine::GrammarMachine(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const TokenTrie> trie)
    : grammar_(std::move(grammar)), trie_(std::move(trie)) {
    frames_.push_back({});
    seen_.assign(64, kNothing);
}

Result<std::shared_ptr<GrammarMachine>> GrammarMachine::make(std::shared_ptr<const Grammar> grammar,
                                                             std::shared_ptr<const TokenTrie> trie) {
    std::shared_ptr<GrammarMachine> machine(new GrammarMachine(std::move(grammar), std::move(trie)));
    machine->reach(place_of(machine->grammar_->starts[machine->grammar_->root], 0));
    if (!machine->follow()) {
        return failure(ErrorCode::kInvalidArgument, "the grammar is too ambiguous: too many ways to begin");
    }
    machine->state_of_reached();
    return machine;
}

std::shared_ptr<GrammarMachine> GrammarMachine::renewed(State state) const {
    std::shared_ptr<GrammarMachine> machine(new GrammarMachine(grammar_, trie_));
    std::vector<std::uint32_t> calls;
    for (const Place place : info(state).places) {
        calls.clear();
        for (auto frame = static_cast<std::uint32_t>(place); frame != 0; frame = frames_[frame].below) {
            calls.push_back(frames_[frame].node);
        }
        std::uint32_t frame = 0;
        for (std::size_t i = calls.size(); i > 0; --i) frame = machine->frame_of(calls[i - 1], frame);
        machine->reached_.push_back(place_of(static_cast<std::uint32_t>(place >> 32), frame));
    }
    machine->reached_end_ = info(state).accepts;
    machine->state_of_reached();
    return machine;
}

std::uint32_t GrammarMachine::frame_of(std::uint32_t node, std::uint32_t below) {
    const auto [found, added] =
        frame_ids_.try_emplace(place_of(node, below), static_cast<std::uint32_t>(frames_.size()));
    if (added) frames_.push_back({.node = node, .below = below});
    return found->second;
}

void GrammarMachine::reach(Place place) {
    if (!grammar_->nodes[place >> 32].can_end) return;
    if (2 * (seen_count_ + 1) > seen_.size()) {
        std::vector<Place> old(seen_.size() * 2, kNothing);
        std::swap(old, seen_);
        for (const Place one : old) {
            if (one == kNothing) continue;
            std::size_t slot = mixed(one) & (seen_.size() - 1);
            while (seen_[slot] != kNothing) slot = (slot + 1) & (seen_.size() - 1);
            seen_[slot] = one;
        }
    }
    std::size_t slot = mixed(place) & (seen_.size() - 1);
    while (seen_[slot] != kNothing) {
        if (seen_[slot] == place) return;
        slot = (slot + 1) & (seen_.size() - 1);
    }
    seen_[slot] = place;
    ++seen_count_;
    todo_.push_back(place);
}

// From the places in todo_ to those at bytes, without consuming any. False: too many.
bool GrammarMachine::follow() {
    bool good = true;
    while (!todo_.empty()) {
        const Place place = todo_.back();
        todo_.pop_back();
        const Grammar::Node& node = grammar_->nodes[place >> 32];
        const auto frame = static_cast<std::uint32_t>(place);
        ++work_;
        if (seen_count_ > kMostReached) good = false;
        if (!good) continue;
        switch (node.kind) {
            case Kind::kByte: reached_.push_back(place); break;
            case Kind::kSplit:
                reach(place_of(node.next, frame));
                reach(place_of(node.other, frame));
                break;
            case Kind::kCall: {
                // What follows nothing needs no return: lists by recursion at their end stay flat.
                const std::uint32_t inner =
                    node.next == Grammar::kReturnNode ? frame : frame_of(node.next, frame);
                reach(place_of(grammar_->starts[node.other], inner));
                break;
            }
            case Kind::kReturn:
                if (frame == 0) {
                    reached_end_ = true;
                } else {
                    reach(place_of(frames_[frame].node, frames_[frame].below));
                }
                break;
        }
    }
    // The set is small as a rule: it is emptied for the next time, and does not stay large.
    if (seen_.size() > 4096) {
        seen_.assign(64, kNothing);
    } else {
        std::ranges::fill(seen_, kNothing);
    }
    seen_count_ = 0;
    if (!good) {
        reached_.clear();
        reached_end_ = false;
    }
    return good;
}

// The state with the places in reached_, which is empty afterwards.
GrammarMachine::State GrammarMachine::state_of_reached() {
    const bool accepts = std::exchange(reached_end_, false);
    if (reached_.empty() && !accepts) return kDead;
    std::ranges::sort(reached_);
    std::size_t hash = accepts ? 1 : 0;
    for (const Place place : reached_) hash = mixed(hash ^ place) + hash * 3;
    const auto [first, last] = by_hash_.equal_range(hash);
    for (auto found = first; found != last; ++found) {
        const StateInfo& known = info(found->second);
        if (known.accepts == accepts && known.places == reached_) {
            reached_.clear();
            return found->second;
        }
    }
    const bool full = states_.size() >= kMostStates || places_ + reached_.size() > kMostPlaces ||
                      frames_.size() > kMostFrames;
    if (full && !states_.empty()) {
        reached_.clear();
        return kFull;
    }
    const auto state = static_cast<State>(states_.size());
    places_ += reached_.size();
    states_.push_back({.places = reached_, .accepts = accepts});
    by_hash_.emplace(hash, state);
    reached_.clear();
    return state;
}

GrammarMachine::State GrammarMachine::step(State state, std::uint8_t byte) {
    {
        StateInfo& here = states_[static_cast<std::size_t>(state)];
        if (!here.next) {
            here.next = std::make_unique<std::array<State, 256>>();
            here.next->fill(kUnknown);
        }
        if (const State known = (*here.next)[byte]; known != kUnknown) return known;
        for (const Place place : here.places) {
            const Grammar::Node& node = grammar_->nodes[place >> 32];
            ++work_;
            if (byte < node.low || byte > node.high) continue;
            reach(place_of(node.next, static_cast<std::uint32_t>(place)));
        }
    }
    State next = kDead;
    if (follow()) {
        next = state_of_reached();
        if (next == kFull) return next;
    } else {
        ambiguous_ = true;
    }
    (*states_[static_cast<std::size_t>(state)].next)[byte] = next;
    return next;
}

void GrammarMachine::fill_allowed(State state, std::vector<std::uint64_t>& bits, bool& full) {
    bits.assign((trie_->vocabulary_size() + 63) / 64, 0);
    const auto allow = [&bits](Token token) {
        bits[static_cast<std::size_t>(token) / 64] |= std::uint64_t{1} << (token % 64);
    };
    if (accepts(state)) std::ranges::for_each(trie_->end_tokens(), allow);
    way_.assign(trie_->deepest() + 1, kDead);
    way_[0] = state;
    work_ = 0;
    const auto nodes = trie_->nodes();
    for (std::size_t i = 0; i < nodes.size();) {
        const TokenTrie::Node& node = nodes[i];
        const State next = step(way_[node.depth - 1U], node.byte);
        if (next == kFull) {
            full = true;
            return;
        }
        if (work_ > kMostWork) {
            ambiguous_ = true;
            return;
        }
        way_[node.depth] = next;
        if (next == kDead) {
            i = node.after;
            continue;
        }
        for (const Token token : trie_->tokens(i)) allow(token);
        ++i;
    }
}

std::span<const std::uint64_t> GrammarMachine::allowed(State state) {
    if (!info(state).allowed.empty()) return info(state).allowed;
    bool full = false;
    fill_allowed(state, scratch_, full);
    if (full) return {};
    if (masks_ >= kMostMasks) return scratch_;
    ++masks_;
    std::vector<std::uint64_t>& kept = states_[static_cast<std::size_t>(state)].allowed;
    kept = scratch_;
    return kept;
}

void GrammarCursor::renew() {
    machine_ = machine_->renewed(state_);
    state_ = machine_->start();
}

GrammarMachine::State GrammarCursor::after(Token token) {
    const std::string_view text = machine_->trie().text(token);
    if (text.empty()) return GrammarMachine::kDead;
    for (int attempt = 0; attempt < 2; ++attempt) {
        GrammarMachine::State state = state_;
        for (const char byte : text) {
            state = machine_->step(state, static_cast<std::uint8_t>(byte));
            if (state < 0) break;
        }
        if (state != GrammarMachine::kFull) return state;
        if (attempt == 0) renew();
    }
    return GrammarMachine::kDead;
}

bool GrammarCursor::allows(Token token) {
    if (std::ranges::contains(machine_->trie().end_tokens(), token)) return may_end();
    return after(token) >= 0;
}

bool GrammarCursor::restrict(std::span<float> logits) {
    std::span<const std::uint64_t> bits = machine_->allowed(state_);
    if (bits.empty()) {
        renew();
        bits = machine_->allowed(state_);
    }
    constexpr float kNever = -std::numeric_limits<float>::infinity();
    if (bits.empty()) {
        std::ranges::fill(logits, kNever);
        return false;
    }
    bool any = false;
    for (std::size_t i = 0; i < logits.size(); ++i) {
        if ((bits[i / 64] >> (i % 64) & 1) == 0) {
            logits[i] = kNever;
        } else {
            any = any || logits[i] > kNever;
        }
    }
    return any;
}

void GrammarCursor::accept(Token token) {
    if (const GrammarMachine::State state = after(token); state >= 0) state_ = state;
}

Error GrammarCursor::dead_end() {
    if (machine_->ambiguous()) {
        return {ErrorCode::kInvalidArgument, "the grammar is too ambiguous: too many ways to go on"};
    }
    return {ErrorCode::kModel, "no token of the model's vocabulary can go on as the grammar demands"};
}

}  // namespace syncyte
