#include "scheduler/scheduler.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"

namespace syncyte {

// A request that has its place in the cache.
struct Scheduler::Sequence {
    static constexpr std::size_t kNoRow = static_cast<std::size_t>(-1);

    Ref<Request> request;
    PrefixTree::Node* node;
    Sampler sampler;
    OutputText text;
    std::int32_t generated = 0;
    Token next = 0;            // the last generated token, not yet in the cache
    std::size_t row = kNoRow;  // of this step, whose logits choose the next token
    bool done = false;

    [[nodiscard]] const std::vector<Token>& prompt() const { return request->options().prompt; }
    // Tokens in the cache: of the prompt, then of what was generated.
    [[nodiscard]] std::size_t computed() const { return node->tokens.size(); }
    [[nodiscard]] bool decoding() const { return computed() >= prompt().size(); }
};

Scheduler::Scheduler(std::shared_ptr<const Model> model, std::unique_ptr<Context> context,
                     const SchedulerOptions& options)
    : model_(std::move(model)),
      context_(std::move(context)),
      options_(options),
      tree_(*context_, context_sequences(options.max_sequences), options.cells,
            context_->can_fork() ? PrefixTree::Sharing::kYes : PrefixTree::Sharing::kNo) {
    check(options.max_sequences > 0 && options.rows_per_step >= options.max_sequences &&
              options.context_length > 1 && options.cells >= options.context_length &&
              options.cells <= context_->cells(),
          "scheduler options that fit the context");
}

std::int32_t Scheduler::context_sequences(std::int32_t max_sequences) {
    constexpr std::int32_t kKept = 64;
    constexpr std::int32_t kMost = 256;  // libllama's limit
    return std::min(max_sequences + kKept, kMost);
}

Scheduler::~Scheduler() { fail_all(Error(ErrorCode::kClosed, "the model was closed")); }

void Scheduler::submit(Ref<Request> request) {
    std::optional<Error> error;
    {
        const std::scoped_lock lock(mutex_);
        if (!failed_) {
            inbox_.push_back(std::move(request));
            ++stats_.waiting;
            return;
        }
        error = failed_;
    }
    request->fail(std::move(*error));
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
    receive();
    drop_cancelled();
    admit();
    build_rows();
    if (rows_.empty()) {
        publish_stats();
        return false;
    }
    if (Result<void> done = forward(); !done) {
        fail_all(done.error());
        return false;
    }
    process();
    publish_stats();
    return true;
}

void Scheduler::receive() {
    {
        const std::scoped_lock lock(mutex_);
        std::swap(received_, inbox_);
    }
    for (Ref<Request>& request : received_) waiting_.push_back(std::move(request));
    received_.clear();
}

void Scheduler::drop_cancelled() {
    std::erase_if(waiting_, [](const Ref<Request>& request) {
        if (!request->cancelled()) return false;
        request->complete(FinishReason::kCancelled, {});
        return true;
    });
    for (const auto& sequence : running_) {
        if (!sequence->request->cancelled()) continue;
        std::string rest;
        sequence->text.finish(rest);
        sequence->request->complete(FinishReason::kCancelled, rest);
        retire(*sequence);
    }
    std::erase_if(running_, [](const auto& sequence) { return sequence->done; });
}

std::size_t Scheduler::tokens_needed(const Request& request) const {
    // The last generated token is never computed, so it needs no cell.
    const std::size_t most =
        request.options().prompt.size() + static_cast<std::size_t>(request.options().max_tokens) - 1;
    return std::min(most, static_cast<std::size_t>(options_.context_length));
}

void Scheduler::admit() {
    while (!waiting_.empty() && std::cmp_less(running_.size(), options_.max_sequences)) {
        const RequestOptions& options = waiting_.front()->options();
        if (tree_.worth_waiting(options.prompt)) return;
        PrefixTree::Node* node = tree_.begin(options.prompt, tokens_needed(*waiting_.front()));
        if (node == nullptr) return;
        Ref<Request> request = std::move(waiting_.front());
        waiting_.pop_front();
        std::vector<Token> banned;
        if (options.ignore_eos == IgnoreEos::kYes) banned.assign_range(model_->end_tokens());
        Sampler sampler(options.sampling, std::move(banned), options.prompt);
        request->mark_started();
        request->mark_reused(static_cast<std::int32_t>(node->shared));
        reused_tokens_ += node->shared;
        running_.push_back(std::make_unique<Sequence>(Sequence{.request = std::move(request),
                                                               .node = node,
                                                               .sampler = std::move(sampler),
                                                               .text = OutputText(options.stops)}));
    }
}

void Scheduler::build_rows() {
    rows_.clear();
    for (const auto& sequence : running_) {
        sequence->row = Sequence::kNoRow;
        if (!sequence->decoding()) continue;
        sequence->row = rows_.size();
        rows_.push_back(
            {sequence->next, static_cast<Position>(sequence->computed()), sequence->node->id, true});
    }
    const auto most = static_cast<std::size_t>(options_.rows_per_step);
    for (const auto& sequence : running_) {
        if (sequence->decoding()) continue;
        const std::vector<Token>& prompt = sequence->prompt();
        const std::size_t count = std::min(prompt.size() - sequence->computed(), most - rows_.size());
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t position = sequence->computed() + i;
            const bool last = position + 1 == prompt.size();
            if (last) sequence->row = rows_.size();
            rows_.push_back({prompt[position], static_cast<Position>(position), sequence->node->id, last});
        }
    }
}

Result<void> Scheduler::forward() {
    Result<void> done = context_->step(rows_);
    if (!done) {
        // Room was reserved, so a full cache means that the accounting or the model is broken.
        if (done.error().code == ErrorCode::kFull) done.error().code = ErrorCode::kModel;
        if (done.error().code == ErrorCode::kCancelled) done.error().code = ErrorCode::kClosed;
        return done;
    }
    ++steps_;
    rows_done_ += rows_.size();
    for (const BatchRow& row : rows_) {
        const auto owner =
            std::ranges::find(running_, row.sequence, [](const auto& s) { return s->node->id; });
        (*owner)->node->tokens.push_back(row.token);
    }
    return {};
}

void Scheduler::process() {
    for (const auto& sequence : running_) {
        if (sequence->row == Sequence::kNoRow) continue;
        process_token(*sequence, sequence->sampler.sample(context_->logits(sequence->row)));
        if (sequence->done) retire(*sequence);
    }
    std::erase_if(running_, [](const auto& sequence) { return sequence->done; });
}

bool Scheduler::is_end(Token token) const { return std::ranges::contains(model_->end_tokens(), token); }

void Scheduler::process_token(Sequence& sequence, Token token) {
    Request& request = *sequence.request;
    std::string shown;
    sequence.done = true;
    if (is_end(token)) {
        sequence.text.finish(shown);
        request.complete(FinishReason::kStop, shown);
        return;
    }
    std::string bytes;
    if (Result<void> piece = model_->append_piece(token, ParseSpecial::kNo, bytes); !piece) {
        request.fail(piece.error());
        return;
    }
    sequence.next = token;
    ++sequence.generated;
    const bool stopped = sequence.text.append(bytes, shown);
    request.append(token, shown);
    if (stopped) {
        request.complete(FinishReason::kStop, {});
        return;
    }
    const bool out_of_context = sequence.computed() >= static_cast<std::size_t>(options_.context_length);
    if (sequence.generated >= request.options().max_tokens || out_of_context) {
        shown.clear();
        sequence.text.finish(shown);
        request.complete(FinishReason::kLength, shown);
        return;
    }
    sequence.done = false;
}

void Scheduler::retire(Sequence& sequence) {
    tree_.end(sequence.node);
    sequence.done = true;
}

void Scheduler::fail_all(const Error& error) {
    std::vector<Ref<Request>> inbox;
    {
        const std::scoped_lock lock(mutex_);
        if (!failed_) failed_ = error;
        std::swap(inbox, inbox_);
    }
    for (const Ref<Request>& request : inbox) request->fail(error);
    for (const Ref<Request>& request : waiting_) request->fail(error);
    for (const auto& sequence : running_) {
        sequence->request->fail(error);
        retire(*sequence);
    }
    waiting_.clear();
    running_.clear();
    tree_.clear();
    publish_stats();
}

void Scheduler::publish_stats() {
    const std::scoped_lock lock(mutex_);
    stats_ = {.running = static_cast<std::int32_t>(running_.size()),
              .waiting = static_cast<std::int32_t>(waiting_.size() + inbox_.size()),
              .reserved_cells = tree_.running_cells(),
              .kept_cells = tree_.kept_cells(),
              .steps = steps_,
              .rows = rows_done_,
              .reused_tokens = reused_tokens_};
}

}  // namespace syncyte
