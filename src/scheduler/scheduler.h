// Continuous batching: every request for one model, from every interpreter, shares each batch step.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/ref.h"
#include "engine/model.h"
#include "engine/sampler.h"
#include "scheduler/output_text.h"
#include "scheduler/prefix_tree.h"
#include "scheduler/request.h"

namespace syncyte {

struct SchedulerOptions {
    std::int32_t max_sequences = 8;    // requests computed together
    std::int32_t context_length = 0;   // tokens of one sequence, prompt and answer
    std::int32_t cells = 0;            // tokens of all sequences together: room in the cache
    std::int32_t rows_per_step = 128;  // decoding first, the rest for prompts: bounds how long a step takes
};

struct SchedulerStats {
    std::int32_t running = 0;
    std::int32_t waiting = 0;
    std::int32_t reserved_cells = 0;  // of those who run
    std::int32_t kept_cells = 0;      // of those who ended, for others to begin with
    std::uint64_t steps = 0;
    std::uint64_t rows = 0;
    std::uint64_t reused_tokens = 0;  // of prompts, taken from what others had computed
};

// Requests are served first come, first served. One is admitted when a sequence is free and the cache has
// room for its prompt and all it may generate: once admitted it never runs out of room, and it ends with
// the same reason whoever runs beside it. A prompt begins with as much as any other, running or ended, has
// computed of it already; while another is computing such a beginning, it waits for that.
class Scheduler {
  public:
    // Sequence ids that a context for max_sequences needs: some hold what ended.
    static std::int32_t context_sequences(std::int32_t max_sequences);

    // `context` must be of `model` and have context_sequences() of them.
    Scheduler(std::shared_ptr<const Model> model, std::unique_ptr<Context> context,
              const SchedulerOptions& options);
    ~Scheduler();
    Scheduler(const Scheduler&) = delete;
    Scheduler& operator=(const Scheduler&) = delete;

    // Any thread. After fail_all() the request fails at once, with that error.
    void submit(Ref<Request> request);
    // Any thread: why a request with such a prompt can never run, if so.
    [[nodiscard]] Result<void> check_prompt(std::size_t tokens) const;
    [[nodiscard]] SchedulerStats stats() const;
    // Any thread: makes the running step end soon; the scheduler then fails everything it holds.
    void interrupt() { context_->interrupt(); }

    // Engine thread: one round of receive, schedule, forward, process. False when there was nothing to do.
    bool step();
    // Engine thread: ends every request, and every later one, with `error`.
    void fail_all(const Error& error);

    [[nodiscard]] const SchedulerOptions& options() const { return options_; }

  private:
    struct Sequence;

    void receive();
    void admit();
    void build_rows();
    Result<void> forward();
    void process();
    void process_token(Sequence& sequence, Token token);
    void retire(Sequence& sequence);
    void drop_cancelled();
    void publish_stats();
    [[nodiscard]] std::size_t tokens_needed(const Request& request) const;
    [[nodiscard]] bool is_end(Token token) const;

    const std::shared_ptr<const Model> model_;
    const std::unique_ptr<Context> context_;
    const SchedulerOptions options_;

    // Shared with other threads.
    mutable std::mutex mutex_;
    std::vector<Ref<Request>> inbox_;
    std::optional<Error> failed_;
    SchedulerStats stats_;

    // Engine thread only.
    std::vector<Ref<Request>> received_;
    std::deque<Ref<Request>> waiting_;
    std::vector<std::unique_ptr<Sequence>> running_;  // oldest first
    PrefixTree tree_;
    std::vector<BatchRow> rows_;
    std::uint64_t steps_ = 0;
    std::uint64_t rows_done_ = 0;
    std::uint64_t reused_tokens_ = 0;
};

}  // namespace syncyte
