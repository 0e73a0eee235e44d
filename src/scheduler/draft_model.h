// A small model that guesses how texts go on, for a larger one of the same vocabulary to check.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "engine/model.h"
#include "scheduler/prefix_tree.h"
#include "scheduler/step_cost.h"

namespace syncyte {

struct DraftOptions {
    std::int32_t sequences = 0;       // ids of the context
    std::int32_t context_length = 0;  // tokens of one text; longer ones are not guessed
    std::int32_t cells = 0;           // of the context
    std::int32_t rows_per_step = 0;
    std::int32_t vocabulary = 0;  // tokens that the large model knows
    Clock::time_point (*now)() = &Clock::now;
};

// It has a KV cache of its own, in which texts share their beginnings as in the large model's. It may fail at
// any time, and then guesses no more: nothing depends on it. The engine thread only, but for interrupt().
class DraftModel {
  public:
    // Where a text is in the cache. Empty until its first guess.
    struct Place {
        PrefixTree::Node* node = nullptr;
        std::vector<Token> ahead;  // in the cache after the node's tokens: guessed, not known yet
    };

    // A text whose next tokens are wanted.
    struct Wish {
        Place* place = nullptr;
        std::span<const Token> text;  // begins as at the last guess, at least one token
        std::string_view salt;
        std::size_t most = 0;  // tokens to guess, at least one
        // Of the probability that the model gave its last guess: whether to guess another.
        std::function<bool(double probability)> goes_on{};
        // Filled in: what was guessed, maybe nothing, and how likely it was to the model.
        std::vector<Token> guess{};
        std::vector<double> probabilities{};
        std::size_t row = 0;  // of the last step, while guessing
    };

    // kInvalidArgument, and how they differ: a draft model's tokens have to be those of the model.
    static Result<void> check_fits(const Model& model, const Model& draft);

    // `context` is of `model` and has as many sequences and cells as the options say. Its sequences can be
    // rewound: check_fits() does not know.
    DraftModel(std::shared_ptr<const Model> model, std::unique_ptr<Context> context,
               const DraftOptions& options);
    DraftModel(const DraftModel&) = delete;
    DraftModel& operator=(const DraftModel&) = delete;

    // Guesses for all of them, step by step together. A text of which much has not been computed yet is
    // computed in pieces, one at each call, and is guessed when that is done.
    void guess(std::span<Wish> wishes);
    // Tokens to compute before the next one of a text can be guessed.
    [[nodiscard]] static std::size_t missing(const Place& place, std::span<const Token> text) {
        return text.size() - (place.node == nullptr ? 0 : place.node->tokens.size());
    }
    // What the text has become: guesses that came stay computed.
    void settle(Place& place, std::span<const Token> text);
    // The text is not guessed any more, for now. What is computed may stay for others.
    void leave(Place& place);

    // False: it has failed.
    [[nodiscard]] bool works() const { return error_.empty(); }
    // Why it has, for people.
    [[nodiscard]] const std::string& error() const { return error_; }
    // What a step of so many rows takes; 0: nothing was measured.
    [[nodiscard]] double seconds(std::size_t rows) const { return cost_.seconds(rows); }
    // Of all steps.
    [[nodiscard]] Clock::duration computing() const { return computing_; }
    [[nodiscard]] std::size_t rows_per_step() const {
        return static_cast<std::size_t>(options_.rows_per_step);
    }
    // Nothing is saved from now on, and nothing guessed.
    void close();
    // Any thread, once: the running step, and every later one, ends soon.
    void interrupt() { context_->interrupt(); }

  private:
    [[nodiscard]] bool can_follow(const Wish& wish) const;
    bool follow(Wish& wish);
    void keep_room(std::vector<Wish*>& wishes);
    void catch_up(std::vector<Wish*>& wishes);
    void take(std::vector<Wish*>& wishes);
    bool step();
    void give_up(const std::string& why);

    const std::shared_ptr<const Model> model_;
    const std::unique_ptr<Context> context_;
    const DraftOptions options_;
    const std::size_t vocabulary_;  // tokens that both know
    PrefixTree tree_;
    StepCost cost_;
    Clock::duration computing_{};
    std::string error_;
    std::size_t followed_ = 0;  // places in use
    int full_ = 0;              // steps in a row that found no room
    std::vector<BatchRow> rows_;
};

}  // namespace syncyte
