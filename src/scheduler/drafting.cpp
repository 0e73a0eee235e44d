// The scheduler's guesses: tokens that are likely to come are computed along with the last known one, and
// those that come indeed need no step of their own. What comes is chosen as ever, row by row, so a wrong
// guess costs its rows and nothing else.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "scheduler/lookup.h"
#include "scheduler/scheduler.h"
#include "scheduler/sequence.h"

namespace syncyte {

namespace {

constexpr std::size_t kMostDrafted = 16;  // of one sequence, where it is for us to say
constexpr double kFirstRate = 0.3;        // that a guess is right, before any was seen
constexpr double kLeastGain = 1.05;       // expected, or nothing is drafted
// With more sequences a step is so wide that only their own texts are worth looking through.
constexpr std::size_t kLookFar = 4;
constexpr std::size_t kGoodMatch = 8;

// One guessed token, and the chance that it and all before it are right.
struct Chance {
    double right;
    Sequence* sequence;
};

}  // namespace

// What each running answer may go on with, and how much of that to compute. Not beside prompts: their rows
// fill the step.
void Scheduler::draft() {
    for (const auto& sequence : running_) {
        sequence->guess.clear();
        sequence->drafted = 0;
    }
    const bool asked =
        std::ranges::any_of(running_, [](const auto& s) { return s->options().draft_tokens != 0; });
    if (!asked || !context_->can_rewind()) return;
    std::vector<Sequence*> decoding;
    for (const auto& sequence : running_) {
        if (!serves(*sequence)) continue;
        if (!sequence->decoding()) return;
        decoding.push_back(sequence.get());
    }
    std::size_t room = static_cast<std::size_t>(options_.rows_per_step) - decoding.size();
    room = std::min(room, static_cast<std::size_t>(std::max(tree_.free_cells(), 0)));
    const bool pays = decoding.size() <= kLookFar || may_pay(decoding.size(), room);
    std::vector<Sequence*> automatic;
    for (Sequence* sequence : decoding) {
        if (sequence->options().draft_tokens < 0 && !pays) continue;
        guess(*sequence, decoding.size() <= kLookFar);
        if (sequence->guess.empty()) continue;
        if (sequence->options().draft_tokens < 0) {
            automatic.push_back(sequence);
        } else {
            sequence->drafted = std::min(sequence->guess.size(), room);
            room -= sequence->drafted;
        }
    }
    if (!automatic.empty() && room > 0) weigh(automatic, decoding.size(), room);
}

// Whether it would if every guess were right.
bool Scheduler::may_pay(std::size_t sequences, std::size_t room) const {
    const double least = kLeastGain / cost_.of(sequences);
    const std::size_t most = std::min({room, kMostDrafted * sequences, StepCost::kMostRows - sequences});
    for (std::size_t i = 1; i <= most; ++i) {
        const double gain = static_cast<double>(sequences + i) / static_cast<double>(sequences);
        if (gain / cost_.of(sequences + i) > least) return true;
    }
    return false;
}

void Scheduler::guess(Sequence& sequence, bool look_far) {
    const std::int32_t asked = sequence.options().draft_tokens;
    const std::size_t wanted = asked < 0 ? kMostDrafted : static_cast<std::size_t>(asked);
    const auto context = static_cast<std::size_t>(options_.context_length);
    const std::size_t most = std::min({wanted, static_cast<std::size_t>(std::max(sequence.to_come(), 0)),
                                       context - std::min(context, sequence.tokens.size())});
    if (most == 0) return;
    const std::span<const Token> text = sequence.tokens;
    const TextMatch own = longest_match(text, text);
    sequence.matched = own.length;
    if (own.length > 0) repeat_from(text, own.next, most, sequence.guess);
    if (own.length >= kGoodMatch || !look_far) return;
    for (const std::span<const Token> other : tree_.texts(sequence.node)) {
        const TextMatch match = longest_match(other, text);
        if (match.length <= sequence.matched) continue;
        sequence.matched = match.length;
        sequence.guess.assign_range(other.subspan(match.next, std::min(most, other.size() - match.next)));
    }
}

// Draws the line where the expected tokens per second are most.
void Scheduler::weigh(const std::vector<Sequence*>& guessed, std::size_t sequences, std::size_t room) {
    if (!cost_.knows(sequences)) return;
    std::vector<Chance> chances;
    for (Sequence* sequence : guessed) {
        const double usual = acceptance_.rate(sequence->matched, kFirstRate);
        const double rate = sequence->acceptance.rate(sequence->matched, usual);
        double right = 1;
        for (std::size_t i = 0; i < sequence->guess.size(); ++i) chances.push_back({right *= rate, sequence});
    }
    std::ranges::stable_sort(chances, std::greater{}, &Chance::right);
    const std::size_t most = std::min({chances.size(), room, StepCost::kMostRows - sequences});
    auto tokens = static_cast<double>(sequences);
    double best = kLeastGain * tokens / cost_.of(sequences);
    std::size_t drafted = 0;
    for (std::size_t i = 0; i < most; ++i) {
        tokens += chances[i].right;
        const double speed = tokens / cost_.of(sequences + i + 1);
        if (speed <= best) continue;
        best = speed;
        drafted = i + 1;
    }
    for (std::size_t i = 0; i < drafted; ++i) ++chances[i].sequence->drafted;
}

// The rows of one answer: the next token, and as many more as were drafted and are what comes.
void Scheduler::process_rows(Sequence& sequence) {
    const std::size_t matched = sequence.matched;
    const std::size_t guessed = sequence.guess.size();
    const std::size_t drafted = sequence.drafted;
    std::size_t right = 0;
    std::size_t chosen = 0;
    while (true) {
        const Result<Token> token = sequence.sampler->sample(context_->logits(sequence.row + chosen));
        if (!token) {
            fail(sequence, token.error());
            break;
        }
        const bool is_right = chosen < guessed && *token == sequence.guess[chosen];
        const bool goes_on = is_right && chosen < drafted;
        ++chosen;
        if (is_right) ++right;
        if (goes_on) {
            ++sequence.accepted_tokens;
            ++accepted_tokens_;
        }
        process_token(sequence, *token);
        if (!goes_on || sequence.done) break;
        check(tree_.extend(sequence.node), "cells for what was drafted");
        sequence.node->tokens.push_back(*token);
    }
    // What was not drafted has shown whether it would have been right.
    if (const std::size_t tried = std::min(chosen, guessed); tried > 0) {
        sequence.acceptance.note(matched, tried, right);
        acceptance_.note(matched, tried, right);
    }
    withdraw(sequence);
}

// The context had no room for them, and may have without.
bool Scheduler::give_up_drafts() {
    if (std::ranges::all_of(running_, [](const auto& s) { return s->drafted == 0; })) return false;
    for (const auto& sequence : running_) sequence->drafted = 0;
    build_rows();
    return true;
}

// The cells of what was drafted and did not come.
void Scheduler::withdraw(Sequence& sequence) {
    if (sequence.drafted > 0 && sequence.node != nullptr) {
        context_->erase(sequence.node->id, static_cast<Position>(sequence.computed()));
    }
    sequence.guess.clear();
    sequence.drafted = 0;
}

}  // namespace syncyte
