// libllama's context behind the engine's interface. Private to the engine: includes llama.h.
#pragma once

#include <llama.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/core_budget.h"
#include "engine/llama_adapter.h"
#include "engine/llama_attention.h"
#include "engine/model.h"

namespace syncyte {

class LlamaContext final : public Context {
  public:
    // `rpc`: the servers that hold a part of the model. `adapters`: of the model; as the model itself, they
    // must outlive the context.
    static Result<std::unique_ptr<Context>> make(llama_model* model, const std::vector<std::string>& rpc,
                                                 LlamaAdapters& adapters, const ContextOptions& options);
    ~LlamaContext() override;

    Result<void> step(std::span<const BatchRow> rows) override;
    void apply(const AppliedAdapter& adapter) override;
    std::span<float> logits(std::size_t row) override;
    std::span<const float> embedding(SequenceId sequence) override;
    void erase(SequenceId sequence, Position from) override;
    void fork(SequenceId from, SequenceId to, Position length) override;
    bool gather(SequenceId sequence, Position from) override;
    std::vector<std::uint8_t> save(SequenceId sequence, Position from) override;
    bool restore(SequenceId sequence, Position from, std::span<const std::uint8_t> state) override;
    void rename(SequenceId from, SequenceId to) override;
    [[nodiscard]] bool can_fork() const override { return can_rewind_ && !separate_; }
    [[nodiscard]] bool can_rewind() const override { return can_rewind_; }
    [[nodiscard]] bool wants_neighbours() const override { return separate_; }
    [[nodiscard]] AttentionTiles attention_tiles() const override { return attention_tiles_; }
    void set_threads(std::int32_t most) override { most_threads_ = most; }
    [[nodiscard]] std::int32_t threads() const override { return threads_; }
    void interrupt() override { interrupted_.store(true, std::memory_order_relaxed); }
    [[nodiscard]] std::int32_t cells() const override;

  private:
    explicit LlamaContext(LlamaAdapters& adapters) : adapters_(adapters) {}
    void order(std::span<const BatchRow> rows);
    bool read_state(SequenceId sequence, Position from, std::vector<std::uint8_t>& state);
    bool write_state(SequenceId sequence, std::span<const std::uint8_t> state);
    bool replace(SequenceId sequence, Position from, std::span<const std::uint8_t> state);
    bool watch();
    Result<void> probe(std::int32_t threads);

    LlamaAdapters& adapters_;
    LlamaAttention attention_;
    llama_context* context_ = nullptr;
    std::vector<std::string> rpc_;
    AppliedAdapter applied_;
    std::size_t vocabulary_size_ = 0;
    std::size_t embedding_length_ = 0;
    bool can_rewind_ = false;
    bool separate_ = false;
    AttentionTiles attention_tiles_;
    std::atomic<bool> interrupted_{false};
    CoreBudget budget_;
    std::int32_t most_threads_ = 1;
    std::int32_t threads_ = 1;  // of the running step
    double row_seconds_ = 0;    // for each row of the last step
    // Two sequences beside those of the callers, for parts on their way, and the bytes of one that gather()
    // moves.
    SequenceId leaving_ = 0;
    SequenceId arriving_ = 1;
    std::vector<std::uint8_t> moved_;
    // The columns of the batch, refilled each step.
    std::vector<llama_token> tokens_;
    std::vector<llama_pos> positions_;
    std::vector<std::int32_t> sequence_counts_;
    std::vector<llama_seq_id> sequences_;
    std::vector<llama_seq_id*> sequence_pointers_;
    std::vector<std::int8_t> outputs_;
    // Which row each column is of, and the other way round.
    std::vector<std::size_t> rows_;
    std::vector<std::int32_t> columns_;
};

}  // namespace syncyte
