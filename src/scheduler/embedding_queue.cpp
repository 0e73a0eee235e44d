#include "scheduler/embedding_queue.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

namespace syncyte {

namespace {

constexpr std::size_t kLeastRoom = 512;
constexpr std::size_t kRowsPerStep = 128;  // where texts may come in pieces: bounds how long a step takes
constexpr SequenceId kTextsPerStep = 32;

}  // namespace

EmbeddingQueue::EmbeddingQueue(std::shared_ptr<const Model> model, const EmbeddingOptions& options)
    : model_(std::move(model)),
      options_(options),
      // A ranking head reads the whole text at once.
      whole_(!model_->info().causal || options.pooling == Pooling::kRank) {}

EmbeddingQueue::~EmbeddingQueue() { fail_all(Error(ErrorCode::kClosed, "the model was closed")); }

void EmbeddingQueue::submit(const Ref<EmbeddingJob>& job) {
    if (job->texts().empty()) return;  // has ended
    std::optional<Error> error;
    {
        const std::scoped_lock lock(mutex_);
        error = failed_;
        if (!error) inbox_.push_back(job);
    }
    if (error) job->fail(std::move(*error));
}

bool EmbeddingQueue::step() {
    receive();
    drop_cancelled();
    if (Result<void> begun = begin(); !begun) {
        // No context for the text whose turn it is: its job cannot go on.
        const Ref<EmbeddingJob> job = turns_.front().job;
        turns_.pop_front();
        job->fail(std::move(begun.error()));
        return true;
    }
    if (running_.empty()) return false;
    build_rows();
    if (Result<void> done = context_->step(rows_); !done) {
        if (done.error().code == ErrorCode::kCancelled) {
            fail_all(Error(ErrorCode::kClosed, done.error().message));
            return false;
        }
        fail_running(done.error());
        return true;
    }
    collect();
    return true;
}

void EmbeddingQueue::receive() {
    const std::scoped_lock lock(mutex_);
    for (Ref<EmbeddingJob>& job : std::exchange(inbox_, {})) {
        job->mark_started();
        turns_.push_back({.job = std::move(job)});
    }
}

void EmbeddingQueue::drop_cancelled() {
    drop([](const EmbeddingJob& job) { return job.cancelled(); },
         [](EmbeddingJob& job) { job.complete(FinishReason::kCancelled, {}); });
}

// Forgets the jobs that are over, and tells each of them so.
void EmbeddingQueue::drop(const std::function<bool(const EmbeddingJob&)>& over,
                          const std::function<void(EmbeddingJob&)>& tell) {
    std::vector<Ref<EmbeddingJob>> ended;
    const auto note = [&ended](const Ref<EmbeddingJob>& job) {
        const bool known =
            std::ranges::any_of(ended, [&job](const auto& one) { return one.get() == job.get(); });
        if (!known) ended.push_back(job);
    };
    std::erase_if(turns_, [&](const Turn& turn) {
        if (!over(*turn.job)) return false;
        note(turn.job);
        return true;
    });
    std::erase_if(running_, [&](const Running& text) {
        if (!over(*text.job)) return false;
        context_->erase(text.sequence, 0);
        note(text.job);
        return true;
    });
    for (const Ref<EmbeddingJob>& job : ended) tell(*job);
}

// Gives texts a sequence while there are sequences and room, one of each job in turn.
Result<void> EmbeddingQueue::begin() {
    std::size_t used = 0;
    for (const Running& text : running_) used += text.tokens().size();
    while (!turns_.empty() && std::ssize(running_) < kTextsPerStep) {
        Turn& turn = turns_.front();
        const std::size_t size = turn.job->texts()[turn.begun].size();
        if (context_ == nullptr || size > room_) {
            if (!running_.empty()) return {};  // the larger context comes when they have left this one
            if (Result<void> made = make_room(size); !made) return made;
        }
        if (used + size > room_) return {};
        used += size;
        running_.push_back({.job = turn.job, .index = turn.begun, .sequence = free_sequence(), .vector = {}});
        ++turn.begun;
        if (turn.begun < turn.job->texts().size()) turns_.push_back(std::move(turn));
        turns_.pop_front();
    }
    return {};
}

Result<void> EmbeddingQueue::make_room(std::size_t tokens) {
    const auto longest = static_cast<std::size_t>(options_.longest);
    const std::size_t room = std::min(std::max(std::bit_ceil(tokens), kLeastRoom), std::max(longest, tokens));
    std::unique_ptr<Context> old;
    {
        const std::scoped_lock lock(mutex_);
        old = std::move(context_);
    }
    old = nullptr;  // its memory goes before the new one's comes
    room_ = room;
    rows_per_step_ = whole_ ? room : std::min(room, kRowsPerStep);
    Result<std::unique_ptr<Context>> made =
        model_->make_context({.cells = static_cast<std::int32_t>(room),
                              .max_sequences = kTextsPerStep,
                              .rows_per_step = static_cast<std::int32_t>(rows_per_step_),
                              .threads = options_.threads,
                              .pooling = options_.pooling});
    if (!made) return std::unexpected(std::move(made.error()));
    const std::scoped_lock lock(mutex_);
    context_ = std::move(*made);
    if (interrupted_) context_->interrupt();
    return {};
}

SequenceId EmbeddingQueue::free_sequence() const {
    SequenceId free = 0;
    while (std::ranges::contains(running_, free, &Running::sequence)) ++free;
    return free;
}

// In the order in which they began: nobody is overtaken for ever.
void EmbeddingQueue::build_rows() {
    rows_.clear();
    for (Running& text : running_) {
        const std::vector<Token>& tokens = text.tokens();
        const std::size_t left = rows_per_step_ - rows_.size();
        text.rows = std::min(tokens.size() - text.computed, left);
        for (std::size_t i = 0; i < text.rows; ++i) {
            const std::size_t position = text.computed + i;
            rows_.push_back({.token = tokens[position],
                             .position = static_cast<Position>(position),
                             .sequence = text.sequence,
                             .output = true});
        }
    }
}

void EmbeddingQueue::collect() {
    std::vector<const EmbeddingJob*> numberless;
    for (Running& text : running_) {
        if (text.rows == 0) continue;
        pool(text, context_->embedding(text.sequence));
        text.computed += text.rows;
        if (text.computed < text.tokens().size()) continue;
        if (!std::ranges::all_of(text.vector, [](float x) { return std::isfinite(x); })) {
            numberless.push_back(text.job.get());
            continue;
        }
        context_->erase(text.sequence, 0);
        text.job->put(text.index, text.vector);
    }
    drop([&](const EmbeddingJob& job) { return std::ranges::contains(numberless, &job); },
         [](EmbeddingJob& job) {
             job.fail(Error(ErrorCode::kModel,
                            "the model computes no numbers (NaN or infinity), so its file may be damaged"));
         });
    std::erase_if(running_, [](const Running& text) { return text.computed == text.tokens().size(); });
}

// The context pools the tokens of one step; this, the steps of one text.
void EmbeddingQueue::pool(Running& text, std::span<const float> vector) const {
    const bool first = text.computed == 0;
    if (options_.pooling == Pooling::kMean) {
        if (first) text.vector.assign(vector.size(), 0.0F);
        const float share = static_cast<float>(text.rows) / static_cast<float>(text.tokens().size());
        for (std::size_t i = 0; i < vector.size(); ++i) text.vector[i] += share * vector[i];
    } else if (first || options_.pooling != Pooling::kCls) {
        text.vector.assign(vector.begin(), vector.end());
    }
}

// Their context is not to be trusted any more either.
void EmbeddingQueue::fail_running(const Error& error) {
    std::vector<Ref<EmbeddingJob>> jobs;
    for (const Running& text : std::exchange(running_, {})) {
        if (!std::ranges::any_of(jobs, [&](const auto& job) { return job.get() == text.job.get(); })) {
            jobs.push_back(text.job);
        }
    }
    for (const Ref<EmbeddingJob>& job : jobs) {
        std::erase_if(turns_, [&](const Turn& turn) { return turn.job.get() == job.get(); });
        job->fail(error);
    }
    std::unique_ptr<Context> broken;
    const std::scoped_lock lock(mutex_);
    broken = std::move(context_);
}

void EmbeddingQueue::fail_all(const Error& error) {
    {
        const std::scoped_lock lock(mutex_);
        failed_ = error;
    }
    receive();
    fail_running(error);
    for (const Turn& turn : std::exchange(turns_, {})) turn.job->fail(error);
}

void EmbeddingQueue::interrupt() {
    const std::scoped_lock lock(mutex_);
    interrupted_ = true;
    if (context_) context_->interrupt();
}

}  // namespace syncyte
