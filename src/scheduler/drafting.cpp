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
constexpr double kFirstDraftRate = 0.85;  // of a draft model's: it is tried before it is given up
constexpr double kFirstDraftCost = 0.15;  // of a draft model's row, before any was measured: of one here
constexpr double kLeastGain = 1.05;       // expected, or nothing is drafted
// With more sequences a step is so wide that only their own texts are worth looking through.
constexpr std::size_t kLookFar = 4;
// Tokens, computed without a draft model because it does not pay, after which it gets another chance.
constexpr std::size_t kAnotherChance = 2048;

// One guessed token, and the chance that it and all before it are right.
struct Chance {
    double right;
    Sequence* sequence;
};

double first_rate(Acceptance::Kind kind) {
    return kind < Acceptance::Kind::kUnlikely ? kFirstRate : kFirstDraftRate;
}

// Tokens that may be drafted of it, as far as it is concerned.
std::size_t most_drafted(const Sequence& sequence, std::int32_t context_length) {
    const std::int32_t asked = sequence.options().draft_tokens;
    const std::size_t wanted = asked < 0 ? kMostDrafted : static_cast<std::size_t>(asked);
    const auto context = static_cast<std::size_t>(context_length);
    return std::min({wanted, static_cast<std::size_t>(std::max(sequence.to_come(), 0)),
                     context - std::min(context, sequence.tokens.size())});
}

bool is_good(const Sequence& sequence) {
    return !sequence.guess.empty() && sequence.kinds.front() >= Acceptance::Kind::kMatchOf8;
}

}  // namespace

// What each running answer may go on with, and how much of that to compute. Not beside prompts: their rows
// fill the step.
void Scheduler::draft() {
    for (const auto& sequence : running_) sequence->forget_guess();
    const bool asked =
        std::ranges::any_of(running_, [](const auto& s) { return s->options().draft_tokens != 0; });
    if (!asked || !context_->can_rewind()) return;
    std::vector<Sequence*> decoding;
    for (const auto& sequence : running_) {
        if (!serves(*sequence)) continue;
        if (!sequence->decoding()) return;
        decoding.push_back(sequence.get());
    }
    auto most = static_cast<std::size_t>(options_.rows_per_step);
    if (const std::size_t tile = context_->attention_tiles().rows; tile != 0 && decoding.size() > 1) {
        most = std::min(most, tile - 1);
        if (decoding.size() >= most) return;
    }
    std::size_t room = most - decoding.size();
    room = std::min(room, static_cast<std::size_t>(std::max(tree_.free_cells(), 0)));
    const bool look_far = decoding.size() <= kLookFar;
    const bool pays = look_far || may_pay(decoding.size(), room);
    std::vector<Sequence*> asking = decoding;
    std::erase_if(asking, [pays](const Sequence* sequence) {
        return sequence->options().draft_tokens == 0 || (sequence->options().draft_tokens < 0 && !pays);
    });
    for (Sequence* sequence : asking) look_up(*sequence, look_far);
    ask_draft_model(asking, decoding.size(), room);
    std::vector<Sequence*> automatic;
    for (Sequence* sequence : asking) {
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

// Guesses from texts.
void Scheduler::look_up(Sequence& sequence, bool look_far) {
    const std::size_t most = most_drafted(sequence, options_.context_length);
    if (most == 0) return;
    const std::span<const Token> text = sequence.tokens;
    const TextMatch own = longest_match(text, text);
    std::size_t matched = own.length;
    if (own.length > 0) repeat_from(text, own.next, most, sequence.guess);
    if (own.length < kGoodMatch && look_far) {
        for (const std::span<const Token> other : tree_.texts(sequence.node)) {
            const TextMatch match = longest_match(other, text);
            if (match.length <= matched) continue;
            matched = match.length;
            sequence.guess.assign_range(other.subspan(match.next, std::min(most, other.size() - match.next)));
        }
    }
    sequence.kinds.assign(sequence.guess.size(), Acceptance::of_match(matched));
}

// The chance that such a guess for the sequence is right.
double Scheduler::rate(const Sequence& sequence, Acceptance::Kind kind) const {
    return sequence.acceptance.rate(kind, acceptance_.rate(kind, first_rate(kind)));
}

// Guesses of a draft model, for those whose texts give no good one: as many as were asked for, or as pay.
void Scheduler::ask_draft_model(const std::vector<Sequence*>& asking, std::size_t sequences,
                                std::size_t room) {
    if (!draft_model_ || !draft_model_->works()) return;
    std::vector<DraftModel::Wish> wishes;
    std::vector<Sequence*> wishing;
    const auto wish = [&](Sequence& sequence, std::size_t most) {
        most = std::min(most, most_drafted(sequence, options_.context_length));
        if (most == 0) return;
        wishing.push_back(&sequence);
        wishes.push_back({.place = &sequence.draft,
                          .text = sequence.tokens,
                          .salt = sequence.options().cache_salt,
                          .most = most});
    };
    std::vector<Sequence*> automatic;
    for (Sequence* sequence : asking) {
        if (is_good(*sequence)) continue;
        if (sequence->options().draft_tokens < 0) {
            automatic.push_back(sequence);
        } else {
            wish(*sequence, std::min(room, kMostDrafted * 4));
        }
    }
    const DraftPlan plan = plan_drafting(automatic, sequences, room);
    for (Sequence* sequence : automatic) {
        if (plan.depth == 0 || !worth_following(*sequence, plan, sequences)) continue;
        wish(*sequence, plan.depth);
        if (wishing.empty() || wishing.back() != sequence) continue;
        wishes.back().goes_on = [this, sequence, right = 1.0,
                                 least = plan.least](double probability) mutable {
            right *= rate(*sequence, Acceptance::of_probability(probability));
            return right > least;
        };
    }
    if (wishes.empty()) return;
    const Clock::duration before = draft_model_->computing();
    draft_model_->guess(wishes);
    computing_ += draft_model_->computing() - before;
    for (std::size_t i = 0; i < wishes.size(); ++i) {
        if (wishes[i].guess.empty()) continue;
        wishing[i]->guess = std::move(wishes[i].guess);
        wishing[i]->kinds.clear();
        for (const double probability : wishes[i].probabilities) {
            wishing[i]->kinds.push_back(Acceptance::of_probability(probability));
        }
    }
}

// How far a draft model should guess for all of them, by how often it was right and what steps take.
Scheduler::DraftPlan Scheduler::plan_drafting(const std::vector<Sequence*>& with, std::size_t sequences,
                                              std::size_t room) {
    if (with.empty() || !cost_.knows(sequences)) return {};
    double guess_seconds = draft_model_->seconds(with.size());
    if (guess_seconds == 0) guess_seconds = kFirstDraftCost * cost_.seconds(with.size());
    const double plain_speed = static_cast<double>(sequences) / cost_.seconds(sequences);
    std::vector<double> right(with.size(), 1);
    auto tokens = static_cast<double>(sequences);
    double best = kLeastGain * plain_speed;
    DraftPlan plan;
    for (std::size_t depth = 1; depth <= kMostDrafted; ++depth) {
        const std::size_t rows = depth * with.size();
        if (rows > room || sequences + rows > StepCost::kMostRows) break;
        for (std::size_t i = 0; i < with.size(); ++i) {
            tokens += right[i] *= rate(*with[i], Acceptance::Kind::kDrafted);
        }
        const double seconds = cost_.seconds(sequences + rows) + static_cast<double>(depth) * guess_seconds;
        if (tokens / seconds <= best) continue;
        best = tokens / seconds;
        plan = {.depth = depth, .gain = best / plain_speed};
    }
    if (plan.depth == 0) {
        unguessed_ += with.size();
        if (unguessed_ < kAnotherChance) return plan;
        unguessed_ = 0;
        acceptance_.forget_drafted();
        for (const auto& sequence : running_) sequence->acceptance.forget_drafted();
        return plan;
    }
    unguessed_ = 0;
    // What its row costs is weighed when it is there.
    plan.least = best * guess_seconds / static_cast<double>(with.size());
    return plan;
}

// Whether what a draft model saves is more than what it has yet to compute of the text.
bool Scheduler::worth_following(const Sequence& sequence, const DraftPlan& plan,
                                std::size_t sequences) const {
    constexpr std::size_t kFew = 32;
    const std::size_t missing = DraftModel::missing(sequence.draft, sequence.tokens);
    if (missing <= kFew) return true;
    const std::size_t rows = std::min(draft_model_->rows_per_step(), StepCost::kMostRows);
    double step_seconds = draft_model_->seconds(rows);
    if (step_seconds == 0) step_seconds = kFirstDraftCost * cost_.seconds(rows);
    const double costs = step_seconds * static_cast<double>(missing) / static_cast<double>(rows);
    const double plain = cost_.seconds(sequences) * static_cast<double>(std::max(sequence.to_come(), 0));
    return plain * (1 - 1 / plan.gain) > costs;
}

// Draws the line where the expected tokens per second are most.
void Scheduler::weigh(const std::vector<Sequence*>& guessed, std::size_t sequences, std::size_t room) {
    if (!cost_.knows(sequences)) return;
    std::vector<Chance> chances;
    for (Sequence* sequence : guessed) {
        double right = 1;
        for (const Acceptance::Kind kind : sequence->kinds) {
            chances.push_back({right *= rate(*sequence, kind), sequence});
        }
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
    const std::size_t drafted = sequence.drafted;
    std::size_t chosen = 0;
    while (true) {
        const Result<Token> token = sequence.sampler->sample(context_->logits(sequence.row + chosen));
        if (!token) {
            fail(sequence, token.error());
            break;
        }
        // What was not drafted has shown whether it would have been right.
        const bool guessed = chosen < sequence.guess.size();
        const bool is_right = guessed && *token == sequence.guess[chosen];
        if (guessed) note_guess(sequence, sequence.kinds[chosen], is_right);
        const bool goes_on = is_right && chosen < drafted;
        ++chosen;
        if (goes_on) {
            ++sequence.accepted_tokens;
            ++accepted_tokens_;
        }
        process_token(sequence, *token);
        if (!goes_on || sequence.done) break;
        check(tree_.extend(sequence.node), "cells for what was drafted");
        sequence.node->tokens.push_back(*token);
    }
    withdraw(sequence);
}

void Scheduler::note_guess(Sequence& sequence, Acceptance::Kind kind, bool right) {
    for (Acceptance* known : {&sequence.acceptance, &acceptance_}) {
        known->note(kind, right);
        if (kind >= Acceptance::Kind::kUnlikely) known->note(Acceptance::Kind::kDrafted, right);
    }
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
    sequence.forget_guess();
    if (draft_model_) draft_model_->settle(sequence.draft, sequence.tokens);
}

}  // namespace syncyte
