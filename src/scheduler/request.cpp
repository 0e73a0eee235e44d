#include "scheduler/request.h"

#include <utility>

namespace syncyte {

const char* to_string(FinishReason reason) {
    switch (reason) {
        case FinishReason::kStop: return "stop";
        case FinishReason::kLength: return "length";
        case FinishReason::kCancelled: return "cancelled";
        case FinishReason::kDeadline: return "deadline";
    }
    return "unknown";
}

Request::Request(RequestOptions options, std::shared_ptr<const Model> model)
    : options_(std::move(options)), model_(std::move(model)) {}

Error Request::taken() {
    return {ErrorCode::kInvalidArgument,
            "somebody else is waiting for this answer already; one can at a time"};
}

Result<RequestProgress> Request::next(Deadline deadline) { return wait(deadline, Until::kAnything); }

Result<RequestProgress> Request::finish(Deadline deadline) { return wait(deadline, Until::kFinished); }

Result<RequestProgress> Request::wait(Deadline deadline, Until until) {
    if (until == Until::kAnything) streamed_.store(true, std::memory_order_relaxed);
    Parker& parker = Parker::of_this_thread();
    Wake woken = Wake::kUnparked;
    while (true) {
        {
            const std::scoped_lock lock(mutex_);
            if (waiter_ == &parker) waiter_ = nullptr;
            if (reached(until)) {
                if (error_) return std::unexpected(*error_);
                RequestProgress given = std::exchange(progress_, {});
                if (finished_) given.outcome = outcome_;
                return given;
            }
            if (woken == Wake::kInterrupted) return failure(ErrorCode::kInterrupted);
            if (woken == Wake::kTimedOut || deadline.is_now()) return failure(ErrorCode::kTimedOut);
            if (waiter_ != nullptr || port_) return std::unexpected(taken());
            waiter_ = &parker;
            awaited_ = until;
        }
        woken = parker.park(deadline);
    }
}

Request::Watch Request::watch(Until until, Ref<Port> port, std::uint64_t token) {
    if (until == Until::kAnything) streamed_.store(true, std::memory_order_relaxed);
    const std::scoped_lock lock(mutex_);
    if (reached(until)) return Watch::kReady;
    if (waiter_ != nullptr || port_) return Watch::kTaken;
    port_ = std::move(port);
    port_token_ = token;
    awaited_ = until;
    return Watch::kWaits;
}

void Request::unwatch(const Port& port, std::uint64_t token) {
    const std::scoped_lock lock(mutex_);
    if (port_.get() == &port && port_token_ == token) port_ = {};
}

// Under mutex_.
void Request::wake(Until reached) {
    if (awaited_ == Until::kFinished && reached != Until::kFinished) return;
    if (waiter_ != nullptr) std::exchange(waiter_, nullptr)->unpark();
    if (!port_) return;
    const Ref<Port> told = std::exchange(port_, {});
    if (told->push(port_token_)) told->signal();
}

void Request::mark_started() {
    const std::scoped_lock lock(mutex_);
    timings_.queued = seconds();
}

void Request::mark_reused(std::int32_t tokens) {
    const std::scoped_lock lock(mutex_);
    reused_tokens_ = tokens;
}

void Request::mark_drafted(std::int32_t tokens, std::int32_t accepted) {
    const std::scoped_lock lock(mutex_);
    drafted_tokens_ = tokens;
    accepted_tokens_ = accepted;
}

void Request::append(Token token, std::string_view text, std::optional<TokenLogprobs> logprobs) {
    const std::scoped_lock lock(mutex_);
    if (timings_.first_token == 0) timings_.first_token = seconds();
    progress_.tokens.push_back(token);
    progress_.text += text;
    if (logprobs) progress_.logprobs.push_back(std::move(*logprobs));
    wake(Until::kAnything);
}

void Request::complete(FinishReason reason, std::string_view text) {
    const std::scoped_lock lock(mutex_);
    progress_.text += text;
    timings_.total = seconds();
    outcome_ = {.reason = reason,
                .timings = timings_,
                .reused_tokens = reused_tokens_,
                .drafted_tokens = drafted_tokens_,
                .accepted_tokens = accepted_tokens_};
    finished_ = true;
    wake(Until::kFinished);
}

void Request::fail(Error error) {
    const std::scoped_lock lock(mutex_);
    error_ = std::move(error);
    finished_ = true;
    wake(Until::kFinished);
}

}  // namespace syncyte
