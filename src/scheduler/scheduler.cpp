#include "scheduler/scheduler.h"

#include <algorithm>
#include <bit>
#include <string>
#include <utility>

#include "base/check.h"
#include "scheduler/sequence.h"

namespace syncyte {

namespace {

PrefixTree::Sharing sharing_of(const Context& context) {
    if (context.can_fork()) return PrefixTree::Sharing::kYes;
    return context.can_rewind() ? PrefixTree::Sharing::kCopies : PrefixTree::Sharing::kNo;
}

// What one adapter has computed is of no use to another, nor at another scale.
std::string salt_of(const RequestOptions& options) {
    const AppliedAdapter& adapter = options.adapter;
    if (adapter.weights == nullptr) return "base " + options.cache_salt;
    return "adapter " + std::to_string(adapter.weights->number()) + " " +
           std::to_string(std::bit_cast<std::uint32_t>(adapter.scale)) + " " + options.cache_salt;
}

}  // namespace

Scheduler::Scheduler(std::shared_ptr<const Model> model, std::unique_ptr<Context> context,
                     const SchedulerOptions& options, std::unique_ptr<DraftModel> draft_model)
    : model_(std::move(model)),
      context_(std::move(context)),
      options_(options),
      draft_model_(std::move(draft_model)),
      tree_(*context_, context_sequences(options.max_sequences, options.layout), options.cells,
            sharing_of(*context_)) {
    check(options.max_sequences > 0 && options.rows_per_step >= options.max_sequences &&
              options.context_length > 1 && options.cells >= options.context_length &&
              options.cells <= context_->cells(),
          "scheduler options that fit the context");
    stats_.cells = options.cells;
    stats_.cell_use.free = options.cells;
}

std::int32_t Scheduler::context_sequences(std::int32_t max_sequences, CacheLayout layout) {
    if (layout == CacheLayout::kSeparate) return max_sequences;
    constexpr std::int32_t kKept = 64;
    constexpr std::int32_t kMost = 254;  // libllama's limit of 256, but for two that a context needs itself
    return std::min(max_sequences + kKept, kMost);
}

Scheduler::~Scheduler() { fail_all(Error(ErrorCode::kClosed, "the model was closed")); }

Result<void> Scheduler::submit(const Ref<Request>& request) {
    if (request->options().purpose != Purpose::kGenerate && !context_->can_fork()) {
        return failure(
            ErrorCode::kInvalidArgument,
            "nothing can be shared here, so there are no prefixes to keep: the model was opened with "
            "kv_unified=False, or its state is recurrent");
    }
    std::optional<Error> error;
    {
        const std::scoped_lock lock(mutex_);
        if (!failed_) {
            const std::int64_t most = std::int64_t{options_.max_sequences} + options_.max_waiting;
            if (open_ >= most) {
                return failure(ErrorCode::kOverloaded,
                               "the model has " + std::to_string(open_) +
                                   " requests open, which is its limit (max_sequences + max_waiting); "
                                   "ask again later");
            }
            ++open_;
            inbox_.push_back(request);
            ++stats_.waiting;
            return {};
        }
        error = failed_;
    }
    request->fail(std::move(*error));
    return {};
}

void Scheduler::interrupt() {
    context_->interrupt();
    if (draft_model_) draft_model_->interrupt();
}

Result<void> Scheduler::check_prompt(std::size_t tokens) const {
    if (tokens == 0) return failure(ErrorCode::kInvalidArgument, "the prompt has no tokens");
    const auto room = static_cast<std::size_t>(options_.context_length);
    if (tokens < room) return {};
    return failure(ErrorCode::kInvalidArgument, "the prompt has " + std::to_string(tokens) +
                                                    " tokens, the context " + std::to_string(room) +
                                                    ", and at least one must be left for the answer");
}

SchedulerStats Scheduler::stats() const {
    const std::scoped_lock lock(mutex_);
    return stats_;
}

bool Scheduler::step() {
    now_ = options_.now();
    receive();
    drop_ended();
    admit();
    secure_cells();
    const bool tidied = tree_.tidy(running_.size());
    tree_.close_gaps();
    deliver();
    choose_adapter();
    draft();
    build_rows();
    if (rows_.empty()) {
        context_->apply({});
        publish_stats();
        return tidied || !waiting_.empty();
    }
    Result<void> done = forward();
    if (!done && done.error().code == ErrorCode::kFull && give_up_drafts()) done = forward();
    if (!done) {
        if (done.error().code != ErrorCode::kFull) {
            fail_all(done.error());
            return false;
        }
        relieve();
        deliver();
    } else {
        process();
        const Clock::time_point processed = options_.now();
        busy_ += processed - now_;
        deliver();
        gather();
        busy_ += options_.now() - processed;
    }
    publish_stats();
    return true;
}

void Scheduler::receive() {
    {
        const std::scoped_lock lock(mutex_);
        std::swap(received_, inbox_);
    }
    for (Ref<Request>& request : received_) {
        const RequestOptions& options = request->options();
        auto sequence = std::make_unique<Sequence>(Sequence{.request = request,
                                                            .tokens = options.prompt,
                                                            .salt = salt_of(options),
                                                            .text = OutputText(options.stops)});
        sequence->arrival = ++arrivals_;
        sequence->waiting_since = now_;
        waiting_.push_back(std::move(sequence));
    }
    received_.clear();
}

// Whose requests this step computes: all running ones have something to compute.
void Scheduler::choose_adapter() {
    claims_.clear();
    for (const auto& sequence : running_) {
        const RequestOptions& options = sequence->options();
        AdapterTurns::Claim claim{options.adapter, options.priority, options.deadline.time()};
        const auto same = std::ranges::find(claims_, claim.adapter, &AdapterTurns::Claim::adapter);
        if (same == claims_.end()) {
            claims_.push_back(std::move(claim));
        } else if (claim.precedes(*same)) {
            *same = std::move(claim);
        }
    }
    serving_ = turns_.choose(claims_, now_);
    claims_.clear();
}

Result<void> Scheduler::forward() {
    const Clock::time_point start = options_.now();
    context_->apply(serving_);
    Result<void> done = context_->step(rows_);
    if (!done) {
        if (done.error().code == ErrorCode::kCancelled) done.error().code = ErrorCode::kClosed;
        return done;
    }
    const Clock::time_point end = options_.now();
    const double seconds = seconds_between(start, end);
    pace_.note(decoding_, rows_.size() - decoding_, seconds);
    if (decoding_ == rows_.size()) cost_.note(decoding_, seconds);
    turns_.note(seconds);
    tree_.note_rows(decoding_, rows_.size() - decoding_);
    computing_ += end - start;
    ++steps_;
    rows_done_ += rows_.size();
    cramped_ = false;
    for (std::size_t i = 0; i < rows_.size(); ++i) {
        Sequence& owner = *owners_[i];
        // What was drafted counts when it has come.
        if (i <= owner.row) owner.node->tokens.push_back(rows_[i].token);
    }
    for (const auto& sequence : running_) {
        sequence->drafted_tokens += static_cast<std::int32_t>(sequence->drafted);
        drafted_tokens_ += sequence->drafted;
        // Others' prompts fill the steps: it rises as those do who wait for a place.
        if (serves(*sequence) && sequence->last_step + 1 != steps_) sequence->waited += end - start;
    }
    return {};
}

void Scheduler::process() {
    for (const auto& sequence : running_) {
        if (sequence->row == Sequence::kNoRow) continue;
        if (sequence->options().purpose != Purpose::kGenerate) {
            process_prefix(*sequence);
        } else {
            process_rows(*sequence);
        }
    }
    std::erase_if(running_, [](const auto& sequence) { return sequence->done; });
}

// Tokens of a sequence that decodes beside others lie among theirs. Every so many, they are moved together:
// of one sequence a step, so that no step takes long. Who decodes alone gets neighbouring cells anyway.
void Scheduler::gather() {
    constexpr std::size_t kEvery = 32;
    if (running_.size() < 2 || !context_->can_fork()) return;
    const auto scattered = [](const auto& sequence) {
        return sequence->computed() - std::min(sequence->node->gathered, sequence->computed());
    };
    const auto most = std::ranges::max_element(running_, {}, scattered);
    if (most == running_.end() || scattered(*most) < kEvery) return;
    Sequence& sequence = **most;
    const std::size_t from = std::max(sequence.computed() - scattered(*most), tree_.unshared(sequence.node));
    if (from + kEvery / 2 <= sequence.computed()) {
        context_->gather(sequence.node->id, static_cast<Position>(from));
    }
    sequence.node->gathered = sequence.computed();
}

bool Scheduler::is_end(Token token) const { return std::ranges::contains(model_->end_tokens(), token); }

void Scheduler::process_prefix(Sequence& sequence) {
    if (sequence.options().purpose == Purpose::kPinnedPrefix) {
        constexpr std::size_t kMostPins = 32;
        const std::int32_t most = options_.cells / 2;
        const std::int32_t pinned = tree_.pinned_cells(sequence.node);
        if (pinned > most || pins_.size() >= kMostPins) {
            fail(sequence,
                 Error(ErrorCode::kOverloaded,
                       "pinned prefixes may hold " + std::to_string(most) + " tokens of the KV cache, " +
                           std::to_string(kMostPins) + " of them at most: with this one it would be " +
                           std::to_string(pinned) + " tokens in " + std::to_string(pins_.size() + 1)));
            return;
        }
        tree_.pin(sequence.node);
        pins_.push_back({sequence.request, sequence.node});
    }
    complete(sequence, FinishReason::kStop, {});
}

void Scheduler::process_token(Sequence& sequence, Token token) {
    Request& request = *sequence.request;
    std::string shown;
    if (is_end(token) || std::ranges::contains(request.options().stop_tokens, token)) {
        sequence.text.finish(shown);
        complete(sequence, FinishReason::kStop, shown);
        return;
    }
    std::string bytes;
    if (Result<void> piece = model_->append_piece(token, ParseSpecial::kNo, bytes); !piece) {
        fail(sequence, piece.error());
        return;
    }
    sequence.tokens.push_back(token);
    ++sequence.generated;
    const bool stopped = sequence.text.append(bytes, shown);
    request.append(token, shown, sequence.sampler->take_logprobs());
    if (stopped) {
        complete(sequence, FinishReason::kStop, {});
        return;
    }
    if (sequence.sampler->must_end()) {
        shown.clear();
        sequence.text.finish(shown);
        complete(sequence, FinishReason::kStop, shown);
        return;
    }
    const bool out_of_context = sequence.tokens.size() >= static_cast<std::size_t>(options_.context_length);
    if (sequence.generated >= request.options().max_tokens || out_of_context) {
        shown.clear();
        sequence.text.finish(shown);
        complete(sequence, FinishReason::kLength, shown);
    }
}

void Scheduler::complete(Sequence& sequence, FinishReason reason, std::string_view text) {
    leave(sequence);
    sequence.request->mark_drafted(sequence.drafted_tokens, sequence.accepted_tokens);
    ended_.push_back({.request = sequence.request, .outcome = reason, .text = std::string(text)});
}

void Scheduler::fail(Sequence& sequence, Error error) {
    leave(sequence);
    ended_.push_back({.request = sequence.request, .outcome = std::unexpected(std::move(error)), .text = {}});
}

// Whoever waits for a request that has ended hears of it, and finds it in the statistics.
void Scheduler::deliver() {
    if (ended_.empty()) return;
    publish_stats();
    for (Ended& ended : ended_) {
        if (ended.outcome) {
            ended.request->complete(*ended.outcome, ended.text);
        } else {
            ended.request->fail(std::move(ended.outcome.error()));
        }
    }
    ended_.clear();
}

void Scheduler::fail_overloaded(Sequence& sequence) {
    fail(sequence,
         Error(ErrorCode::kOverloaded,
               "the KV cache of " + std::to_string(options_.cells) + " tokens has no room for the " +
                   std::to_string(sequence.tokens.size()) +
                   " of this request: " + std::to_string(tree_.cells().pinned) + " are pinned by prefixes"));
}

// Its place is free. Its owner erases it.
void Scheduler::leave(Sequence& sequence) {
    withdraw(sequence);
    if (draft_model_) draft_model_->leave(sequence.draft);
    if (sequence.node != nullptr) tree_.end(std::exchange(sequence.node, nullptr));
    tree_.release(std::exchange(sequence.hold, 0));
    sequence.done = true;
    --open_;
}

void Scheduler::fail_all(const Error& error) {
    std::vector<Ref<Request>> inbox;
    {
        const std::scoped_lock lock(mutex_);
        if (!failed_) failed_ = error;
        std::swap(inbox, inbox_);
    }
    for (const Ref<Request>& request : inbox) {
        --open_;
        request->fail(error);
    }
    tree_.close();
    if (draft_model_) draft_model_->close();
    for (const auto& sequence : waiting_) fail(*sequence, error);
    for (const auto& sequence : running_) fail(*sequence, error);
    waiting_.clear();
    running_.clear();
    unplaced_.clear();
    pins_.clear();
    tree_.clear();
    turns_ = {};
    serving_ = {};
    context_->apply({});
    deliver();
    publish_stats();
}

void Scheduler::publish_stats() {
    const auto paused = std::ranges::count_if(waiting_, [](const auto& s) { return s->sampler.has_value(); });
    const std::scoped_lock lock(mutex_);
    stats_ = {.running = static_cast<std::int32_t>(running_.size()),
              .waiting = static_cast<std::int32_t>(waiting_.size() + inbox_.size()) -
                         static_cast<std::int32_t>(paused),
              .paused = static_cast<std::int32_t>(paused),
              .reserved_cells = tree_.running_cells(),
              .kept_cells = tree_.kept_cells(),
              .cells = options_.cells,
              .cell_use = tree_.cells(),
              .parked_tokens = tree_.parked_tokens(),
              .threads = context_->threads(),
              .steps = steps_,
              .rows = rows_done_,
              .reused_tokens = reused_tokens_,
              .drafted_tokens = drafted_tokens_,
              .accepted_tokens = accepted_tokens_,
              .draft_error = draft_model_ ? draft_model_->error() : std::string(),
              .evictions = tree_.evictions(),
              .pauses = pauses_,
              .busy = busy_,
              .computing = computing_};
}

}  // namespace syncyte
