// The scheduler's other half: who has a place, who waits, who gives way.
#include <algorithm>
#include <string>
#include <utility>

#include "scheduler/scheduler.h"
#include "scheduler/sequence.h"

namespace syncyte {

namespace {

// Cells that must be free for each running sequence when another joins, so that nobody has to pause at once.
constexpr std::int32_t kHeadroom = 16;

bool more_urgent(const std::unique_ptr<Sequence>& a, const std::unique_ptr<Sequence>& b) {
    return a->urgency < b->urgency;
}

// Whether `sequence` may take the place of `running`. Its own wait does not count, the other's does: so two
// never take each other's place in turn.
bool may_displace(const Sequence& sequence, const Sequence& running) {
    const std::int64_t level = -running.urgency.sunk;
    const std::int64_t priority = sequence.options().priority;
    return priority > level ||
           (priority == level && sequence.options().deadline < running.options().deadline);
}

}  // namespace

// Those who were cancelled, and those for whom another token would come too late.
void Scheduler::drop_ended() {
    drop_pins();
    const auto ended = [this](const SequencePointer& sequence) {
        if (sequence->request->cancelled()) {
            complete(*sequence, FinishReason::kCancelled, {});
        } else {
            end_if_late(*sequence);
        }
        return sequence->done;
    };
    std::erase_if(waiting_, ended);
    std::erase_if(running_, ended);
}

bool Scheduler::end_if_late(Sequence& sequence) {
    if (!is_late(sequence)) return false;
    std::string shown;
    sequence.text.finish(shown);
    complete(sequence, FinishReason::kDeadline, shown);
    return true;
}

bool Scheduler::is_late(const Sequence& sequence) const {
    const Deadline deadline = sequence.options().deadline;
    if (deadline.is_never()) return false;
    if (deadline.time() <= now_) return true;
    // How much of a waiting prompt others have computed is seen when it has a place.
    const std::size_t rows = sequence.node == nullptr ? 1 : sequence.missing();
    return seconds_between(now_, deadline.time()) < pace_.least_seconds(rows);
}

void Scheduler::drop_pins() {
    std::erase_if(pins_, [this](const Pin& pin) {
        if (!pin.request->cancelled()) return false;
        tree_.unpin(pin.node);
        return true;
    });
}

void Scheduler::update_urgency(Sequence& sequence) const {
    Clock::duration waited = sequence.waited;
    if (sequence.node == nullptr) waited += now_ - sequence.waiting_since;
    sequence.urgency =
        urgency_of(sequence.options().priority, waited, sequence.options().deadline.time(), sequence.arrival);
}

// Gives places to the most urgent. Nobody passes one who does not fit; one who waits for a beginning that
// another is computing is passed.
void Scheduler::admit() {
    ++rounds_;
    if (waiting_.empty()) unplaced_.clear();
    if (waiting_.empty() || (cramped_ && !running_.empty())) return;
    for (const auto& sequence : waiting_) update_urgency(*sequence);
    favour_unplaced();
    constexpr std::size_t kWaitingForPrefix = 64;
    const std::size_t candidates =
        std::min(waiting_.size(), static_cast<std::size_t>(options_.max_sequences) + kWaitingForPrefix);
    std::ranges::partial_sort(waiting_, waiting_.begin() + static_cast<std::ptrdiff_t>(candidates),
                              more_urgent);
    std::vector<SequencePointer> paused;
    std::size_t next = 0;
    while (next < candidates) {
        Sequence& first = *waiting_[next];
        Sequence* last = least_urgent();
        const bool displaces = last != nullptr && may_displace(first, *last);
        const bool place = std::cmp_less(running_.size(), options_.max_sequences);
        if (!place && !displaces) break;
        if (const PrefixTree::Node* node = tree_.worth_waiting(wanted(first)); node != nullptr) {
            lend_urgency(first, node);
            ++next;
        } else if (place && start(first)) {
            update_urgency(first);  // its own again
            if (!end_if_late(first)) running_.push_back(std::move(waiting_[next]));
            waiting_[next++] = nullptr;
        } else if (displaces) {
            paused.push_back(pause(*last));
        } else if (!running_.empty()) {
            break;
        } else {
            fail_overloaded(first);
            waiting_[next++] = nullptr;
        }
    }
    std::erase(waiting_, nullptr);
    for (SequencePointer& sequence : paused) waiting_.push_back(std::move(sequence));
}

// Who computes what a more urgent one waits for is as urgent, for this step.
void Scheduler::lend_urgency(const Sequence& to_whom, const PrefixTree::Node* node) {
    const auto owner = std::ranges::find(running_, node, [](const auto& one) { return one->node; });
    if (owner != running_.end()) (*owner)->lent = std::min((*owner)->lent, to_whom.urgency);
}

void Scheduler::note_unplaced() {
    std::vector<Unplaced> found;
    for (const auto& sequence : waiting_) {
        const AppliedAdapter& adapter = sequence->options().adapter;
        if (!std::ranges::contains(found, adapter, &Unplaced::adapter)) found.push_back({adapter, rounds_});
    }
    if (found.size() < 2) found.clear();
    const auto adapter_of = [](const SequencePointer& sequence) -> const AppliedAdapter& {
        return sequence->options().adapter;
    };
    std::erase_if(
        found, [&](const Unplaced& one) { return std::ranges::contains(running_, one.adapter, adapter_of); });
    for (Unplaced& one : found) {
        const auto before = std::ranges::find(unplaced_, one.adapter, &Unplaced::adapter);
        if (before != unplaced_.end()) one.since = before->since;
    }
    unplaced_ = std::move(found);
}

// Turns of time are for those who have places, so one adapter's flood of requests must not keep all places.
// Of an adapter that has none, the most urgent counts as having waited as long as any other of its priority
// or less, and goes before them; of several adapters, the one that has had none for longest.
void Scheduler::favour_unplaced() {
    note_unplaced();
    std::vector<Sequence*> favoured;
    std::vector<std::int64_t> sunk;
    for (const Unplaced& one : unplaced_) {
        Sequence* first = nullptr;
        for (const auto& sequence : waiting_) {
            if (sequence->options().adapter != one.adapter) continue;
            if (first == nullptr || sequence->urgency < first->urgency) first = sequence.get();
        }
        std::int64_t most = first->urgency.sunk;
        for (const auto& sequence : waiting_) {
            const bool passed = sequence->options().priority <= first->options().priority;
            if (passed) most = std::min(most, sequence->urgency.sunk);
        }
        favoured.push_back(first);
        sunk.push_back(most);
    }
    for (std::size_t i = 0; i < favoured.size(); ++i) {
        favoured[i]->urgency.sunk = sunk[i];
        favoured[i]->urgency.unplaced_since = unplaced_[i].since;
    }
}

PrefixTree::Wanted Scheduler::wanted(const Sequence& sequence) const {
    return {.tokens = sequence.tokens, .salt = sequence.salt, .hold = sequence.hold};
}

std::int32_t Scheduler::headroom(const Sequence& sequence) const {
    const std::int32_t context = options_.context_length - static_cast<std::int32_t>(sequence.tokens.size());
    return std::max(std::min({kHeadroom, sequence.to_come(), context}), 0);
}

// False: no room in the cache.
bool Scheduler::start(Sequence& sequence) {
    PrefixTree::Wanted needs = wanted(sequence);
    needs.headroom = headroom(sequence);
    for (const auto& running : running_) needs.headroom += headroom(*running);
    sequence.node = tree_.begin(needs);
    if (sequence.node == nullptr) return false;
    sequence.hold = 0;
    sequence.waited += now_ - sequence.waiting_since;
    if (sequence.sampler) return true;
    const RequestOptions& options = sequence.options();
    std::vector<Token> banned;
    if (options.ignore_eos == IgnoreEos::kYes) banned.assign_range(model_->end_tokens());
    Sampler::Breaks breaks;
    if (!options.dry_breakers.empty()) {
        breaks = [model = model_, &breakers = options.dry_breakers](Token token) {
            std::string piece;
            return model->append_piece(token, ParseSpecial::kYes, piece).has_value() &&
                   std::ranges::any_of(breakers, [&](const std::string& b) { return piece.contains(b); });
        };
    }
    sequence.sampler.emplace(options.sampling, std::move(banned), options.prompt, options.grammar,
                             std::move(breaks));
    sequence.request->mark_started();
    sequence.request->mark_reused(static_cast<std::int32_t>(sequence.computed()));
    reused_tokens_ += sequence.computed();
    return true;
}

Sequence* Scheduler::least_urgent() const {
    const auto last = std::ranges::max_element(running_, more_urgent);
    return last == running_.end() ? nullptr : last->get();
}

// Takes the place of a running sequence away; its cells stay as long as they can. It waits again.
Scheduler::SequencePointer Scheduler::pause(Sequence& sequence) {
    if (draft_model_) draft_model_->leave(sequence.draft);
    sequence.hold = tree_.pause(std::exchange(sequence.node, nullptr));
    sequence.waiting_since = now_;
    ++pauses_;
    const auto place = std::ranges::find(running_, &sequence, [](const auto& one) { return one.get(); });
    SequencePointer paused = std::move(*place);
    running_.erase(place);
    return paused;
}

// A cell for the next token of everyone who runs, the most urgent first; the least urgent give way.
void Scheduler::secure_cells() {
    for (const auto& sequence : running_) {
        update_urgency(*sequence);
        sequence->urgency = std::min(sequence->urgency, std::exchange(sequence->lent, kNotUrgent));
    }
    std::ranges::sort(running_, more_urgent);
    std::size_t secured = 0;
    while (secured < running_.size()) {
        if (tree_.extend(running_[secured]->node)) {
            ++secured;
        } else if (running_.size() > 1) {
            waiting_.push_back(pause(*running_.back()));
        } else {
            fail_overloaded(*running_.front());
            running_.clear();
        }
    }
}

// The context had less room than the accounts say. The next step asks for less of it.
void Scheduler::relieve() {
    cramped_ = true;
    if (tree_.evict()) return;
    if (running_.size() > 1) {
        waiting_.push_back(pause(*running_.back()));
        return;
    }
    fail_overloaded(*running_.front());
    running_.clear();
}

}  // namespace syncyte
