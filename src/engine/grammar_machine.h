// Runs a grammar over a vocabulary: which tokens may come next.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "engine/grammar.h"
#include "engine/model.h"
#include "engine/token_trie.h"

namespace syncyte {

// States are sets of places in the grammar, each with the calls it will return to; they are made when they
// are first reached, and then the way from state to state is a look into a table, and so is the set of tokens
// that a state allows. Shared by the requests that have the same grammar and model. After make(), one thread
// at a time: the engine's.
class GrammarMachine {
  public:
    using State = std::int32_t;
    static constexpr State kDead = -1;  // nothing can follow: the text is not of the grammar
    static constexpr State kFull = -3;  // the machine has no room for more states; use renewed()

    // kInvalidArgument: the grammar has too many ways to begin.
    static Result<std::shared_ptr<GrammarMachine>> make(std::shared_ptr<const Grammar> grammar,
                                                        std::shared_ptr<const TokenTrie> trie);

    [[nodiscard]] State start() const { return 0; }
    // kFull; kDead, also where more ways lead on than can be followed (see ambiguous()).
    State step(State state, std::uint8_t byte);
    // The text may end here.
    [[nodiscard]] bool accepts(State state) const { return info(state).accepts; }
    // The text must end here.
    [[nodiscard]] bool complete(State state) const {
        return info(state).accepts && info(state).places.empty();
    }
    // A bit for each token of the vocabulary that may come next, end tokens where the text may end. Valid
    // until the next call. Empty: kFull.
    std::span<const std::uint64_t> allowed(State state);
    // Since it was last asked: a state was called dead because there were too many ways to go on.
    bool ambiguous() { return std::exchange(ambiguous_, false); }

    // A machine with room, whose start() is `state`.
    [[nodiscard]] std::shared_ptr<GrammarMachine> renewed(State state) const;
    [[nodiscard]] const TokenTrie& trie() const { return *trie_; }

  private:
    using Place = std::uint64_t;  // a node, and in the lower half what it returns to
    static constexpr State kUnknown = -2;

    struct StateInfo {
        std::vector<Place> places;  // at bytes; sorted
        bool accepts = false;
        std::unique_ptr<std::array<State, 256>> next{};
        std::vector<std::uint64_t> allowed{};  // empty: not known
    };
    // A call that has not returned.
    struct Frame {
        std::uint32_t node;
        std::uint32_t below;  // frame 0: none
    };

    GrammarMachine(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const TokenTrie> trie);

    [[nodiscard]] const StateInfo& info(State state) const {
        return states_[static_cast<std::size_t>(state)];
    }
    std::uint32_t frame_of(std::uint32_t node, std::uint32_t below);
    void reach(Place place);
    [[nodiscard]] bool follow();
    State state_of_reached();
    void fill_allowed(State state, std::vector<std::uint64_t>& bits, bool& full);

    const std::shared_ptr<const Grammar> grammar_;
    const std::shared_ptr<const TokenTrie> trie_;
    std::vector<StateInfo> states_;
    std::size_t places_ = 0;  // of all states
    std::unordered_multimap<std::size_t, State> by_hash_;
    std::vector<Frame> frames_;
    std::unordered_map<std::uint64_t, std::uint32_t> frame_ids_;
    std::size_t masks_ = 0;  // states whose allowed tokens are kept
    std::size_t work_ = 0;
    bool ambiguous_ = false;
    // Kept between calls for their memory.
    std::vector<Place> todo_;
    std::vector<Place> reached_;
    bool reached_end_ = false;
    std::vector<Place> seen_;  // a hash set: open addressing, empty slots are kNothing
    std::size_t seen_count_ = 0;
    std::vector<State> way_;
    std::vector<std::uint64_t> scratch_;
};

// One request's place in its grammar. The engine thread only, but for making it.
class GrammarCursor {
  public:
    explicit GrammarCursor(std::shared_ptr<GrammarMachine> machine)
        : machine_(std::move(machine)), state_(machine_->start()) {}

    [[nodiscard]] bool allows(Token token);
    // Makes what is not allowed impossible (-infinity). False: nothing that was possible is allowed.
    bool restrict(std::span<float> logits);
    // A token that allows() or restrict() left; not an end token.
    void accept(Token token);
    // The text may end here, must end here.
    [[nodiscard]] bool may_end() const { return machine_->accepts(state_); }
    [[nodiscard]] bool must_end() const { return machine_->complete(state_); }
    // Why restrict() left nothing.
    [[nodiscard]] Error dead_end();

  private:
    [[nodiscard]] GrammarMachine::State after(Token token);
    void renew();

    std::shared_ptr<GrammarMachine> machine_;
    GrammarMachine::State state_;
};

}  // namespace syncyte
