// A model as the whole process knows it: whoever opens the same file, in any interpreter, gets the same
// weights and the same engine.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/ref.h"
#include "engine/context_options.h"
#include "engine/grammar_machine.h"
#include "engine/model.h"
#include "scheduler/embedding_job.h"
#include "scheduler/request.h"
#include "scheduler/scheduler.h"

namespace syncyte {

// What is left out is decided by the first who opens the file; later ones take what is there.
struct ModelOptions {
    std::optional<std::int32_t> context_length;  // tokens; default: what it was trained on, 4096 at most
    std::optional<std::int32_t> max_sequences;   // 1 to 256; default 16
    // Tokens in the KV cache, of all sequences together; context_length or more; with a unified layout only.
    // Default: room for all of them at full length, or 4096, or context_length where that is more.
    std::optional<std::int32_t> cache_tokens;
    std::optional<std::int32_t> threads;      // 1 to 512; default: the cores this process may use
    std::optional<std::int32_t> max_waiting;  // requests beyond max_sequences; default: no limit
    // Who asks for others of these than there are gets an engine of its own, on the same weights.
    std::optional<CacheTypes> cache_types;          // default: f16
    std::optional<FlashAttention> flash_attention;  // default: as libllama decides
    std::optional<CacheLayout> layout;              // default: unified
    // A small model that guesses for this one where requests want guesses: the path of its file.
    std::optional<std::string> draft_model;  // default: none
    // Where the weights go, as in LoadOptions.
    std::optional<std::int32_t> gpu_layers;           // -1 to 100000
    std::optional<std::vector<std::string>> devices;  // accelerators of this machine
    std::optional<std::vector<std::string>> rpc;      // "host:port" of servers
};

// One user's hold on a model. Any thread. The weights go when the last hold and the last request are gone;
// who opens the file between the two gets an engine of their own on the same weights, with their own options.
class SharedModel : public RefCounted {
  public:
    // Loads the file, or joins whoever has it open. Same file means same device, inode, size and time of
    // change. Takes as long as reading it. kNotFound, kIo, kModel as load_llama_model(); kInvalidArgument: an
    // option out of range, or other than what the file is open with, or quantised values in the KV cache
    // without flash attention, or a draft model that does not fit.
    static Result<Ref<SharedModel>> open(const std::string& path, const ModelOptions& options);
    // A hold of its own on the same model.
    [[nodiscard]] Ref<SharedModel> again() const;

    [[nodiscard]] const Model& model() const;
    [[nodiscard]] const std::string& path() const;  // absolute, as first opened
    [[nodiscard]] std::int32_t threads() const;
    [[nodiscard]] const std::string& draft_path() const;  // absolute; empty: no draft model
    [[nodiscard]] const SchedulerOptions& limits() const;
    [[nodiscard]] const CacheTypes& cache_types() const;
    [[nodiscard]] FlashAttention flash_attention() const;
    [[nodiscard]] SchedulerStats stats() const;

    // A grammar in GBNF for requests to this model; the one of the same text as before where that is still
    // known. Errors as parse_grammar() and GrammarMachine::make().
    [[nodiscard]] Result<std::shared_ptr<GrammarMachine>> grammar(const std::string& text) const;
    // A LoRA adapter of this model; the one loaded before where that is still used and the file is the same.
    // Errors as Model::load_adapter(). Takes as long as reading the file.
    [[nodiscard]] Result<std::shared_ptr<const Adapter>> adapter(const std::string& path) const;
    // kInvalidArgument: the prompt is empty or as long as the context, the adapter is another model's, the
    // salt longer than 1,024 bytes, or the model only embeds. kOverloaded: max_waiting is reached.
    Result<Ref<Request>> submit(RequestOptions options) const;
    // A vector of each text, or with kRank its scores. kInvalidArgument: a text is empty or longer than the
    // model takes, or the file is not one that ranks.
    Result<Ref<EmbeddingJob>> embed(EmbeddingJob::Texts texts, Pooling pooling, Normalize normalize) const;

  private:
    struct Core;
    friend class ModelRegistry;

    explicit SharedModel(std::shared_ptr<Core> core);
    ~SharedModel() override;

    const std::shared_ptr<Core> core_;
};

// Engines that are open right now, and their weights in memory. For tests and statistics.
std::size_t open_models();

}  // namespace syncyte
