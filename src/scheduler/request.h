// One generation: what was asked, and what has come of it so far.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/parking.h"
#include "base/ref.h"
#include "channel/port.h"
#include "engine/model.h"
#include "engine/sampler.h"

namespace syncyte {

enum class IgnoreEos : bool { kNo, kYes };

enum class Purpose : std::uint8_t {
    kGenerate,
    kPrefix,        // computes the prompt, generates nothing; others begin with it while the cache keeps it
    kPinnedPrefix,  // the same, and it stays until the request is cancelled, though it has ended
};

inline constexpr std::int32_t kDraftWhatPays = -1;

struct RequestOptions {
    std::vector<Token> prompt;  // at least one token
    std::int32_t max_tokens = 128;
    SamplingParams sampling;
    std::vector<std::string> stops;         // none empty
    std::vector<std::string> dry_breakers;  // texts over which no repetition is seen
    std::vector<Token> stop_tokens;         // end the generation as the model's own end does
    IgnoreEos ignore_eos = IgnoreEos::kNo;
    std::int32_t priority = 0;              // higher goes first
    Deadline deadline = Deadline::never();  // it ends in time, with what it has by then
    std::string cache_salt;                 // only requests with the same one share cells
    Purpose purpose = Purpose::kGenerate;
    // Tokens guessed from texts seen before, and computed along with the next one: at most so many, wherever
    // there is a guess; below 0: as many as pay.
    std::int32_t draft_tokens = kDraftWhatPays;
    AppliedAdapter adapter;                   // of the model that computes it
    std::shared_ptr<GrammarMachine> grammar;  // what the answer has to be; null: anything
};

enum class FinishReason : std::uint8_t {
    kStop,       // the model or the grammar ended, or a stop string came
    kLength,     // max_tokens, or the end of the context
    kCancelled,  // cancel() was called
    kDeadline,   // another token would have come too late
};

const char* to_string(FinishReason reason);

// Seconds; all from the moment the request was made.
struct RequestTimings {
    double queued = 0;       // until a sequence was given to it
    double first_token = 0;  // until the first token was there; 0 when none came
    double total = 0;
};

struct RequestOutcome {
    FinishReason reason = FinishReason::kStop;
    RequestTimings timings;
    std::int32_t reused_tokens = 0;    // of the prompt: taken from what others had computed
    std::int32_t drafted_tokens = 0;   // guessed, and computed along with known ones
    std::int32_t accepted_tokens = 0;  // of those: became part of the answer
};

// What has come since the last look. After `outcome` nothing follows.
struct RequestProgress {
    std::string text;  // valid UTF-8
    std::vector<Token> tokens;
    std::vector<TokenLogprobs> logprobs;  // of each token, if they were asked for
    std::optional<RequestOutcome> outcome;
};

// Shared by one consumer at a time, on any thread, and the engine thread. `model` computes it, and stays with
// whatever that needs until the request is deleted, whoever closes it; null in tests that ask it nothing.
class Request : public RefCounted {
  public:
    Request(RequestOptions options, std::shared_ptr<const Model> model);
    ~Request() override = default;

    [[nodiscard]] const RequestOptions& options() const { return options_; }
    [[nodiscard]] const Model& model() const { return *model_; }

    // Consumer. Waits for tokens or the end. kTimedOut; kInterrupted: a signal, or Parker::interrupt();
    // kInvalidArgument: another consumer waits; otherwise the error that ended the request, again at every
    // call.
    Result<RequestProgress> next(Deadline deadline);
    // Consumer. Waits for the end; what next() has not given out yet is in the result.
    Result<RequestProgress> finish(Deadline deadline);
    enum class Until : bool { kAnything, kFinished };
    // Consumer, that does not block: `port` is told `token`, once, when next() (kAnything) or finish()
    // (kFinished) would not wait any more.
    enum class Watch : std::uint8_t {
        kWaits,
        kReady,  // they would not wait now, and nothing is going to be told
        kTaken,  // another consumer waits; nor is it
    };
    static Error taken();  // what next() and finish() then say
    Watch watch(Until until, Ref<Port> port, std::uint64_t token);
    // Consumer. The port is not told that token any more; what is on its way to it stays there.
    void unwatch(const Port& port, std::uint64_t token);
    // Any thread. The engine drops the request within one step. What came until then stays readable.
    void cancel() { cancelled_.store(true, std::memory_order_relaxed); }
    [[nodiscard]] bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
    // Any thread. Whether the consumer has asked for pieces of the answer, not only for all of it.
    [[nodiscard]] bool streamed() const { return streamed_.load(std::memory_order_relaxed); }

    // Engine thread.
    void mark_started();
    void mark_reused(std::int32_t tokens);
    void mark_drafted(std::int32_t tokens, std::int32_t accepted);
    void append(Token token, std::string_view text, std::optional<TokenLogprobs> logprobs = {});
    // `text` is what was held back. Each request gets exactly one of these two.
    void complete(FinishReason reason, std::string_view text);
    void fail(Error error);

  private:
    Result<RequestProgress> wait(Deadline deadline, Until until);
    void wake(Until reached);
    [[nodiscard]] bool reached(Until until) const {
        return finished_ || (until == Until::kAnything && !progress_.tokens.empty());
    }
    [[nodiscard]] double seconds() const { return seconds_between(created_, Clock::now()); }

    const RequestOptions options_;
    const std::shared_ptr<const Model> model_;
    const Clock::time_point created_ = Clock::now();
    std::atomic<bool> cancelled_{false};
    std::atomic<bool> streamed_{false};

    std::mutex mutex_;
    Parker* waiter_ = nullptr;  // the consumer, while it waits
    Until awaited_ = Until::kAnything;
    Ref<Port> port_;  // of the consumer's event loop, while that waits instead
    std::uint64_t port_token_ = 0;
    RequestProgress progress_;  // not yet given out
    RequestTimings timings_;
    std::int32_t reused_tokens_ = 0;
    std::int32_t drafted_tokens_ = 0;
    std::int32_t accepted_tokens_ = 0;
    bool finished_ = false;
    RequestOutcome outcome_;
    std::optional<Error> error_;
};

}  // namespace syncyte
