#include "scheduler/draft_model.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "base/check.h"

namespace syncyte {

namespace {

// Models of one family are padded to different sizes of vocabulary.
constexpr std::int32_t kMostPadding = 1024;
// Steps in a row that find no room, with nothing left to leave the cache, after which it is given up.
constexpr int kMostFull = 16;

// Empty where the token has no piece.
std::string piece_of(const Model& model, Token token) {
    std::string piece;
    if (!model.append_piece(token, ParseSpecial::kYes, piece)) piece.clear();
    return piece;
}

}  // namespace

Result<void> DraftModel::check_fits(const Model& model, const Model& draft) {
    const auto unfit = [](const std::string& why) {
        return failure(ErrorCode::kInvalidArgument,
                       why + "; a draft model needs the vocabulary of the model that it guesses for");
    };
    const ModelInfo& large = model.info();
    const ModelInfo& small = draft.info();
    if (!large.generates || !small.generates) {
        return failure(
            ErrorCode::kInvalidArgument,
            std::string(large.generates ? "it" : "the model it should guess for") + " generates no text");
    }
    if (std::abs(large.vocabulary_size - small.vocabulary_size) > kMostPadding) {
        return unfit("it knows " + std::to_string(small.vocabulary_size) + " tokens, the model " +
                     std::to_string(large.vocabulary_size));
    }
    const Token both = std::min(large.vocabulary_size, small.vocabulary_size);
    for (Token token = 0; token < both; ++token) {
        if (piece_of(model, token) == piece_of(draft, token)) continue;
        return unfit("its token " + std::to_string(token) + " is another text than the model's");
    }
    return {};
}

DraftModel::DraftModel(std::shared_ptr<const Model> model, std::unique_ptr<Context> context,
                       const DraftOptions& options)
    : model_(std::move(model)),
      context_(std::move(context)),
      options_(options),
      vocabulary_(static_cast<std::size_t>(std::min(model_->info().vocabulary_size, options.vocabulary))),
      tree_(*context_, options.sequences, options.cells,
            context_->can_fork() ? PrefixTree::Sharing::kYes : PrefixTree::Sharing::kNo) {
    check(context_->can_rewind() && options.cells <= context_->cells(), "a context fit for drafting");
}

void DraftModel::guess(std::span<Wish> wishes) {
    if (!works()) return;
    tree_.tidy(std::max(followed_, std::size_t{2}));
    std::vector<Wish*> active;
    for (Wish& wish : wishes) {
        if (follow(wish)) active.push_back(&wish);
    }
    keep_room(active);
    catch_up(active);
    while (!active.empty()) {
        rows_.clear();
        for (const Wish* wish : active) {
            const std::size_t position = wish->text.size() + wish->place->ahead.size();
            rows_.push_back({.token = wish->guess.back(),
                             .position = static_cast<Position>(position),
                             .sequence = wish->place->node->id,
                             .output = true});
        }
        if (!step()) return;
        for (std::size_t i = 0; i < active.size(); ++i) {
            active[i]->place->ahead.push_back(active[i]->guess.back());
            active[i]->row = i;
        }
        take(active);
    }
}

// Finds it a place, if it has none.
bool DraftModel::follow(Wish& wish) {
    Place& place = *wish.place;
    if (!can_follow(wish)) {
        leave(place);
        return false;
    }
    settle(place, wish.text);
    // What follows the last token was guessed, and nothing came of it: it is computed again. Not where others
    // share its cell.
    if (place.node != nullptr && missing(place, wish.text) == 0) {
        if (tree_.unshared(place.node) >= wish.text.size()) {
            leave(place);
        } else {
            place.node->tokens.pop_back();
            context_->erase(place.node->id, static_cast<Position>(place.node->tokens.size()));
        }
    }
    if (place.node == nullptr) {
        place.node = tree_.begin(
            {.tokens = wish.text, .salt = wish.salt, .headroom = static_cast<std::int32_t>(wish.most)});
        if (place.node == nullptr) return false;
        ++followed_;
    }
    return true;
}

bool DraftModel::can_follow(const Wish& wish) const {
    if (wish.text.size() + wish.most > static_cast<std::size_t>(options_.context_length)) return false;
    const std::size_t known = wish.text.size() - missing(*wish.place, wish.text);
    return std::ranges::all_of(wish.text.subspan(known),
                               [this](Token token) { return std::cmp_less(token, vocabulary_); });
}

// Cells for all that they are about to compute. Who finds none is not guessed this time.
void DraftModel::keep_room(std::vector<Wish*>& wishes) {
    std::int32_t promised = 0;
    std::erase_if(wishes, [&](const Wish* wish) {
        const PrefixTree::Node& node = *wish->place->node;
        const auto all = static_cast<std::int32_t>(wish->text.size() + wish->most - node.shared);
        const std::int32_t more = std::max(all - node.cells, 0);
        const auto missing = [&] { return tree_.free_cells() < promised + more; };
        while (missing() && tree_.evict()) {
        }
        if (missing()) return true;
        promised += more;
        return false;
    });
}

// What is missing of their texts, nearly complete ones first. Those that are complete then have a guess; of
// them those stay that go on.
void DraftModel::catch_up(std::vector<Wish*>& wishes) {
    const auto missing_of = [](const Wish* wish) { return missing(*wish->place, wish->text); };
    std::ranges::stable_sort(wishes, {}, missing_of);
    rows_.clear();
    auto left = static_cast<std::size_t>(options_.rows_per_step);
    for (Wish* wish : wishes) {
        const PrefixTree::Node& node = *wish->place->node;
        const std::size_t count = std::min(missing_of(wish), left);
        left -= count;
        wish->row = rows_.size() + count - 1;  // of its last token, if that is among them
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t position = node.tokens.size() + i;
            rows_.push_back({.token = wish->text[position],
                             .position = static_cast<Position>(position),
                             .sequence = node.id,
                             .output = position + 1 == wish->text.size()});
        }
    }
    if (rows_.empty() || !step()) {
        wishes.clear();
        return;
    }
    std::size_t row = 0;
    for (const Wish* wish : wishes) {
        PrefixTree::Node& node = *wish->place->node;
        for (; row < rows_.size() && rows_[row].sequence == node.id; ++row) {
            check(tree_.extend(&node), "cells that were kept");
            node.tokens.push_back(rows_[row].token);
        }
    }
    std::erase_if(wishes, [&](const Wish* wish) { return missing_of(wish) > 0; });
    take(wishes);
}

// The likeliest token of each, by its row of the last step.
void DraftModel::take(std::vector<Wish*>& wishes) {
    std::erase_if(wishes, [&](Wish* wish) {
        const std::span<const float> logits = context_->logits(wish->row).first(vocabulary_);
        const auto best = std::ranges::max_element(logits);
        double sum = 0;
        for (const float logit : logits) sum += std::exp(logit - *best);
        wish->guess.push_back(static_cast<Token>(best - logits.begin()));
        wish->probabilities.push_back(1 / sum);
        return wish->guess.size() >= wish->most || (wish->goes_on && !wish->goes_on(1 / sum));
    });
}

bool DraftModel::step() {
    const Clock::time_point start = options_.now();
    const Result<void> done = context_->step(rows_);
    const Clock::duration took = options_.now() - start;
    computing_ += took;
    if (done) {
        full_ = 0;
        cost_.note(rows_.size(), seconds_between(start, start + took));
    } else if (done.error().code != ErrorCode::kFull) {
        give_up(done.error().message);
    } else if (!tree_.evict() && ++full_ == kMostFull) {
        give_up("its KV cache has less room than it said");
    }
    return done.has_value();
}

void DraftModel::give_up(const std::string& why) {
    error_ = why.empty() ? "it failed to compute" : why;
    tree_.close();
}

void DraftModel::settle(Place& place, std::span<const Token> text) {
    if (place.node == nullptr || place.ahead.empty()) return;
    std::vector<Token>& known = place.node->tokens;
    std::size_t came = 0;
    while (came < place.ahead.size() && known.size() < text.size() &&
           place.ahead[came] == text[known.size()] && tree_.extend(place.node)) {
        known.push_back(place.ahead[came++]);
    }
    if (came < place.ahead.size()) context_->erase(place.node->id, static_cast<Position>(known.size()));
    place.ahead.clear();
}

void DraftModel::leave(Place& place) {
    if (place.node == nullptr) return;
    settle(place, {});
    tree_.end(std::exchange(place.node, nullptr));
    --followed_;
}

void DraftModel::close() {
    if (works()) give_up("the model was closed");
}

}  // namespace syncyte
