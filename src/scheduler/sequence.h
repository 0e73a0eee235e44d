// A request as the scheduler sees it: waiting, running or paused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ref.h"
#include "engine/sampler.h"
#include "scheduler/acceptance.h"
#include "scheduler/draft_model.h"
#include "scheduler/output_text.h"
#include "scheduler/prefix_tree.h"
#include "scheduler/request.h"
#include "scheduler/urgency.h"

namespace syncyte {

// The engine thread only. What it has generated survives a pause: to go on, whatever of `tokens` is not in
// the cache any more is computed again, like a prompt.
struct Sequence {
    static constexpr std::size_t kNoRow = static_cast<std::size_t>(-1);

    Ref<Request> request;
    std::vector<Token> tokens;         // the prompt, then all that was generated
    PrefixTree::Node* node = nullptr;  // its place in the cache, while it runs
    std::string salt;                  // of its cells: as the request says, and of its adapter alone
    std::uint64_t hold = 0;            // names what the cache may still have of it, while it is paused
    std::optional<Sampler> sampler{};  // from its first start on
    OutputText text;
    std::int32_t generated = 0;
    std::size_t row = kNoRow;     // of this step, whose logits choose the next token
    std::uint64_t last_step = 0;  // that computed rows of it
    bool done = false;

    // What may come next, and where each guess comes from; the first `drafted` of it are computed in this
    // step, in the rows after `row`.
    std::vector<Token> guess{};
    std::vector<Acceptance::Kind> kinds{};
    std::size_t drafted = 0;
    DraftModel::Place draft{};  // where a draft model has it
    Acceptance acceptance{16};
    std::int32_t drafted_tokens = 0;   // in all
    std::int32_t accepted_tokens = 0;  // of those

    std::uint64_t arrival = 0;
    Clock::time_point waiting_since{};  // while it does not run
    Clock::duration waited{};           // before that, and in steps that computed nothing of it
    Urgency urgency{};                  // as of this step
    Urgency lent = kNotUrgent;          // by whoever waits for what this one computes

    [[nodiscard]] const RequestOptions& options() const { return request->options(); }
    [[nodiscard]] std::size_t computed() const { return node == nullptr ? 0 : node->tokens.size(); }
    // Tokens to compute before the next one can be chosen.
    [[nodiscard]] std::size_t missing() const { return tokens.size() - computed(); }
    // Whether a reader waits for its next token, which is one row away.
    [[nodiscard]] bool decoding() const { return generated > 0 && missing() == 1; }
    // Tokens it may still need cells for beyond `tokens`; the last one it generates needs none.
    [[nodiscard]] std::int32_t to_come() const { return options().max_tokens - generated - 1; }

    void forget_guess() {
        guess.clear();
        kinds.clear();
        drafted = 0;
    }
};

}  // namespace syncyte
