// Continuous batching: every request for one model, from every interpreter, shares each batch step.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ref.h"
#include "engine/model.h"
#include "scheduler/acceptance.h"
#include "scheduler/adapter_turns.h"
#include "scheduler/draft_model.h"
#include "scheduler/engine_work.h"
#include "scheduler/pace.h"
#include "scheduler/prefix_tree.h"
#include "scheduler/request.h"
#include "scheduler/step_cost.h"

namespace syncyte {

struct Sequence;

struct SchedulerOptions {
    std::int32_t max_sequences = 8;              // requests computed together
    std::int32_t context_length = 0;             // tokens of one sequence, prompt and answer
    std::int32_t cells = 0;                      // tokens of all sequences together: room in the cache
    CacheLayout layout = CacheLayout::kUnified;  // that the context was made with
    std::int32_t rows_per_step = 128;  // decoding first, the rest for prompts: bounds how long a step takes
    // Requests beyond max_sequences that may be open; more are refused.
    std::int32_t max_waiting = std::numeric_limits<std::int32_t>::max();
    Clock::time_point (*now)() = &Clock::now;  // tests put their own there
};

struct SchedulerStats {
    std::int32_t running = 0;
    std::int32_t waiting = 0;         // have not begun
    std::int32_t paused = 0;          // have begun, and wait for a place to go on
    std::int32_t reserved_cells = 0;  // of those who run
    std::int32_t kept_cells = 0;      // of those who ended or pause, for others to begin with
    std::int32_t cells = 0;           // in all
    PrefixTree::Cells cell_use;
    std::uint64_t parked_tokens = 0;  // of texts that left the cache, saved outside it
    std::int32_t threads = 0;         // of the last step
    std::uint64_t steps = 0;
    std::uint64_t rows = 0;             // tokens computed
    std::uint64_t reused_tokens = 0;    // of prompts, taken from what others had computed
    std::uint64_t drafted_tokens = 0;   // guessed, and computed along with known ones
    std::uint64_t accepted_tokens = 0;  // of those: were right
    std::string draft_error;      // why the draft model guesses no more; empty: it does, or there is none
    std::uint64_t evictions = 0;  // times that cells were given up for want of room
    std::uint64_t pauses = 0;
    // Of the steps that computed something: their length, and of it the time inside the model.
    Clock::duration busy{};
    Clock::duration computing{};
};

// The most urgent request goes first: by priority, then by deadline, then by arrival; waiting counts as
// priority, so that everybody's turn comes (scheduler/urgency.h). Where requests of several adapters wait,
// the first of an adapter without a place goes before the others of its priority. A request is admitted when
// a sequence is free and the cache has room for its prompt; it takes further cells as it grows. When they run
// out, or a more urgent request needs the place, the least urgent one pauses, and goes on later as if nothing
// had happened. A request that the cache cannot hold at all, because others have pinned too much of it, ends
// with kOverloaded. A prompt begins with as much as any other of its salt, running or ended, has computed of
// it already; while another is computing such a beginning, it waits for that. A step computes requests of one
// adapter only; the adapters take turns (scheduler/adapter_turns.h).
class Scheduler final : public EngineWork {
  public:
    // Sequence ids that a context for max_sequences needs: in a unified cache some hold what ended.
    static std::int32_t context_sequences(std::int32_t max_sequences, CacheLayout layout);

    // `context` must be of `model` and have context_sequences() of them. `draft_model` guesses where requests
    // want guesses; null: only texts are looked through for them.
    Scheduler(std::shared_ptr<const Model> model, std::unique_ptr<Context> context,
              const SchedulerOptions& options, std::unique_ptr<DraftModel> draft_model = nullptr);
    ~Scheduler() override;

    // Any thread. kOverloaded: too many are open; the request was not taken. kInvalidArgument: a prefix, of a
    // model that cannot share any. After fail_all() the request fails at once, with that error.
    Result<void> submit(const Ref<Request>& request);
    // Any thread: why a request with such a prompt can never run, if so.
    [[nodiscard]] Result<void> check_prompt(std::size_t tokens) const;
    [[nodiscard]] SchedulerStats stats() const;
    void interrupt() override;

    // One round of receive, schedule, forward, process.
    bool step() override;
    void fail_all(const Error& error) override;

    [[nodiscard]] const SchedulerOptions& options() const { return options_; }

  private:
    using SequencePointer = std::unique_ptr<Sequence>;

    void receive();
    // Who has a place: admission.cpp.
    void drop_ended();
    [[nodiscard]] bool is_late(const Sequence& sequence) const;
    bool end_if_late(Sequence& sequence);
    void drop_pins();
    void update_urgency(Sequence& sequence) const;
    void admit();
    void lend_urgency(const Sequence& to_whom, const PrefixTree::Node* node);
    void note_unplaced();
    void favour_unplaced();
    [[nodiscard]] PrefixTree::Wanted wanted(const Sequence& sequence) const;
    [[nodiscard]] std::int32_t headroom(const Sequence& sequence) const;
    bool start(Sequence& sequence);
    [[nodiscard]] Sequence* least_urgent() const;
    SequencePointer pause(Sequence& sequence);
    void secure_cells();
    void relieve();
    // What is computed: scheduler.cpp.
    void choose_adapter();
    Result<void> forward();
    void process();
    void process_prefix(Sequence& sequence);
    void gather();
    void process_token(Sequence& sequence, Token token);
    // Its rows: step_rows.cpp.
    struct Share {
        Sequence* sequence;
        std::size_t rows;  // of this step
    };
    void build_rows();
    [[nodiscard]] Deadline nearest_deadline() const;
    [[nodiscard]] bool tiles_pay();
    void avoid_tiles(std::size_t answers);
    [[nodiscard]] bool serves(const Sequence& sequence) const;
    void add_row(Sequence& sequence);
    void add_drafted(Sequence& sequence);
    // What is guessed: drafting.cpp.
    void draft();
    struct DraftPlan {
        std::size_t depth = 0;  // tokens to guess of each text; 0: guesses do not pay
        double gain = 1;        // expected, over plain decoding
        double least = 0;       // chance of a guess that another after it is worth its time
    };
    [[nodiscard]] bool may_pay(std::size_t sequences, std::size_t room) const;
    void look_up(Sequence& sequence, bool look_far);
    void ask_draft_model(const std::vector<Sequence*>& asking, std::size_t sequences, std::size_t room);
    DraftPlan plan_drafting(const std::vector<Sequence*>& with, std::size_t sequences, std::size_t room);
    [[nodiscard]] bool worth_following(const Sequence& sequence, const DraftPlan& plan,
                                       std::size_t sequences) const;
    [[nodiscard]] double rate(const Sequence& sequence, Acceptance::Kind kind) const;
    void weigh(const std::vector<Sequence*>& guessed, std::size_t sequences, std::size_t room);
    void process_rows(Sequence& sequence);
    void note_guess(Sequence& sequence, Acceptance::Kind kind, bool right);
    bool give_up_drafts();
    void withdraw(Sequence& sequence);
    // How it ends.
    void complete(Sequence& sequence, FinishReason reason, std::string_view text);
    void fail(Sequence& sequence, Error error);
    void fail_overloaded(Sequence& sequence);
    void leave(Sequence& sequence);
    void deliver();
    void publish_stats();
    [[nodiscard]] bool is_end(Token token) const;

    const std::shared_ptr<const Model> model_;
    const std::unique_ptr<Context> context_;
    const SchedulerOptions options_;
    const std::unique_ptr<DraftModel> draft_model_;

    // Shared with other threads.
    mutable std::mutex mutex_;
    std::vector<Ref<Request>> inbox_;
    std::optional<Error> failed_;
    SchedulerStats stats_;
    std::atomic<std::int64_t> open_{0};  // requests taken that have not ended

    // Engine thread only.
    struct Pin {
        Ref<Request> request;
        PrefixTree::Node* node;
    };
    // A request that has ended, and has not been told so.
    struct Ended {
        Ref<Request> request;
        Result<FinishReason> outcome;
        std::string text;  // the last of it
    };
    // An adapter whose requests wait, and none of them has a place.
    struct Unplaced {
        AppliedAdapter adapter;
        std::uint64_t since;  // round
    };

    Clock::time_point now_;  // when this step began
    std::vector<Ref<Request>> received_;
    std::vector<SequencePointer> waiting_;  // in no order
    std::vector<SequencePointer> running_;
    std::vector<Unplaced> unplaced_;  // empty while only one adapter's requests wait
    std::vector<Pin> pins_;
    std::vector<Ended> ended_;
    PrefixTree tree_;
    Pace pace_;
    StepCost cost_;
    Acceptance acceptance_{256};  // of all sequences
    std::size_t unguessed_ = 0;   // tokens since a draft model last had a chance
    AdapterTurns turns_;
    AppliedAdapter serving_;  // what this step computes with
    std::vector<AdapterTurns::Claim> claims_;
    std::vector<Share> shares_;  // of the step: of running answers, then of prompts
    std::vector<PrefixTree::Node*> seen_;
    bool alone_ = false;  // the last step to avoid tiles computed a prompt by itself
    std::vector<BatchRow> rows_;
    std::vector<Sequence*> owners_;  // of the rows
    std::size_t decoding_ = 0;       // of them, rows of running answers
    bool cramped_ = false;           // the context had less room than the accounts say: nobody joins
    std::uint64_t arrivals_ = 0;
    std::uint64_t rounds_ = 0;  // of step()
    std::uint64_t steps_ = 0;
    std::uint64_t rows_done_ = 0;
    std::uint64_t reused_tokens_ = 0;
    std::uint64_t drafted_tokens_ = 0;
    std::uint64_t accepted_tokens_ = 0;
    std::uint64_t pauses_ = 0;
    Clock::duration busy_{};
    Clock::duration computing_{};
};

}  // namespace syncyte
