// Embeddings of texts from every interpreter, many in one batch step: one of these for a model and a pooling.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/ref.h"
#include "engine/model.h"
#include "scheduler/embedding_job.h"
#include "scheduler/engine_work.h"

namespace syncyte {

struct EmbeddingOptions {
    Pooling pooling = Pooling::kMean;
    std::int32_t longest = 512;  // tokens of one text at most
    std::int32_t threads = 1;
};

// A context of its own, made when the first text comes, and made anew when a longer one needs more room: so
// it is as large as the texts are. Jobs take turns text by text, so that a short one need not wait for a long
// one. Where tokens see only what came before, a long text is computed in pieces, and what generates
// meanwhile goes on between them; otherwise a text is computed in one step.
class EmbeddingQueue final : public EngineWork {
  public:
    EmbeddingQueue(std::shared_ptr<const Model> model, const EmbeddingOptions& options);
    ~EmbeddingQueue() override;

    // Any thread. No text is empty or longer than `longest`. After fail_all() the job fails at once.
    void submit(const Ref<EmbeddingJob>& job);

    bool step() override;
    void fail_all(const Error& error) override;
    void interrupt() override;

  private:
    // A job and how many of its texts were begun.
    struct Turn {
        Ref<EmbeddingJob> job;
        std::size_t begun = 0;
    };
    // A text that is being computed.
    struct Running {
        Ref<EmbeddingJob> job;
        std::size_t index = 0;
        SequenceId sequence = 0;
        std::size_t computed = 0;
        std::size_t rows = 0;  // of the running step
        std::vector<float> vector;

        [[nodiscard]] const std::vector<Token>& tokens() const { return job->texts()[index]; }
    };

    void receive();
    void drop_cancelled();
    void drop(const std::function<bool(const EmbeddingJob&)>& over,
              const std::function<void(EmbeddingJob&)>& tell);
    Result<void> begin();
    Result<void> make_room(std::size_t tokens);
    void build_rows();
    void collect();
    void pool(Running& text, std::span<const float> vector) const;
    void fail_running(const Error& error);
    [[nodiscard]] SequenceId free_sequence() const;

    const std::shared_ptr<const Model> model_;
    const EmbeddingOptions options_;
    const bool whole_;  // a text needs to be in one step

    // Shared with other threads.
    std::mutex mutex_;
    std::vector<Ref<EmbeddingJob>> inbox_;
    std::optional<Error> failed_;
    bool interrupted_ = false;
    std::unique_ptr<Context> context_;  // replaced by the engine thread only

    // Engine thread only.
    std::deque<Turn> turns_;  // jobs with texts not begun
    std::vector<Running> running_;
    std::vector<BatchRow> rows_;
    std::size_t room_ = 0;           // tokens that the context holds
    std::size_t rows_per_step_ = 0;  // of the context
};

}  // namespace syncyte
