#include "engine/llama_context.h"

#include <algorithm>
#include <exception>
#include <numeric>
#include <shared_mutex>
#include <string>
#include <utility>

#include "base/check.h"
#include "engine/endpoint.h"
#include "engine/llama_guard.h"

namespace syncyte {

namespace {

constexpr std::uint32_t kOwnSequences = 2;

ggml_type type_of(CacheType type) {
    switch (type) {
        case CacheType::kF32: return GGML_TYPE_F32;
        case CacheType::kQ8_0: return GGML_TYPE_Q8_0;
        case CacheType::kQ4_0: return GGML_TYPE_Q4_0;
        case CacheType::kF16: break;
    }
    return GGML_TYPE_F16;
}

llama_flash_attn_type type_of(FlashAttention wanted) {
    switch (wanted) {
        case FlashAttention::kOff: return LLAMA_FLASH_ATTN_TYPE_DISABLED;
        case FlashAttention::kOn: return LLAMA_FLASH_ATTN_TYPE_ENABLED;
        case FlashAttention::kAuto: break;
    }
    return LLAMA_FLASH_ATTN_TYPE_AUTO;
}

enum llama_pooling_type type_of(Pooling pooling) {
    switch (pooling) {
        case Pooling::kMean: return LLAMA_POOLING_TYPE_MEAN;
        case Pooling::kCls: return LLAMA_POOLING_TYPE_CLS;
        case Pooling::kLast: return LLAMA_POOLING_TYPE_LAST;
        case Pooling::kRank: return LLAMA_POOLING_TYPE_RANK;
        case Pooling::kNone: break;
    }
    return LLAMA_POOLING_TYPE_NONE;
}

llama_context_params params_of(const ContextOptions& options) {
    llama_context_params params = llama_context_default_params();
    params.n_ctx = static_cast<std::uint32_t>(options.cells);
    params.n_seq_max = static_cast<std::uint32_t>(options.max_sequences) + kOwnSequences;
    // libllama reserves its graph for an output of each sequence, in one step.
    params.n_batch = std::max(static_cast<std::uint32_t>(options.rows_per_step), params.n_seq_max);
    params.n_ubatch = params.n_batch;
    params.n_threads = options.threads;
    params.n_threads_batch = options.threads;
    params.kv_unified = true;
    if (options.layout == CacheLayout::kSeparate) {
        params.kv_unified = false;
        params.n_seq_max = static_cast<std::uint32_t>(options.max_sequences);  // no gather()
    }
    if (options.pooling != Pooling::kNone) {
        params.embeddings = true;
        // Without those for gather(). libllama reserves its graph for whole rows of sequences, and takes the
        // mean of no others.
        params.n_seq_max = static_cast<std::uint32_t>(options.max_sequences);
        params.n_batch = (params.n_batch + params.n_seq_max - 1) / params.n_seq_max * params.n_seq_max;
        params.n_ubatch = params.n_batch;
        params.n_ctx = std::max(params.n_ctx, params.n_batch);
        params.pooling_type = type_of(options.pooling);
    }
    params.type_k = type_of(options.cache_types.keys);
    params.type_v = type_of(options.cache_types.values);
    params.flash_attn_type = type_of(options.flash_attention);
    params.no_perf = true;
    return params;
}

// Of ggml's flash attention on processors, measured. Where each sequence has a part of the cache its rows
// make tiles by themselves; quantised keys or values, and accelerators, know none.
AttentionTiles tiles_of(const ContextOptions& options, const std::vector<std::string>& rpc) {
    const CacheTypes& types = options.cache_types;
    const bool plain = types.keys == CacheType::kF16 || types.keys == CacheType::kF32;
    const bool mixed = options.layout == CacheLayout::kUnified && options.pooling == Pooling::kNone;
    const bool flash = options.flash_attention != FlashAttention::kOff;
    const bool processor = rpc.empty() && ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_GPU) == nullptr &&
                           ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_IGPU) == nullptr;
    if (!plain || types.keys != types.values || !mixed || !flash || !processor) return {};
    return {.rows = 64, .gain = 2, .step_cells = 4000};
}

}  // namespace

Result<std::unique_ptr<Context>> LlamaContext::make(llama_model* model, const std::vector<std::string>& rpc,
                                                    LlamaAdapters& adapters, const ContextOptions& options) {
    const LlamaGuard guard;
    std::unique_ptr<LlamaContext> made(new LlamaContext(adapters));
    llama_context_params params = params_of(options);
    params.abort_callback = [](void* self) { return static_cast<LlamaContext*>(self)->watch(); };
    params.abort_callback_data = made.get();
    // With a callback ggml sends a server the whole graph again each step.
    if (rpc.empty() && LlamaAttention::available()) {
        params.cb_eval = &LlamaAttention::evaluate;
        params.cb_eval_user_data = &made->attention_;
    }
    made->rpc_ = rpc;
    made->most_threads_ = options.threads;
    made->leaving_ = options.max_sequences;
    made->arriving_ = options.max_sequences + 1;
    try {
        const std::shared_lock computing(adapters.computing);
        made->context_ = llama_init_from_model(model, params);
    } catch (const std::exception& caught) {
        return failure(ErrorCode::kModel, std::string("no context for the model: ") + caught.what());
    }
    if (made->context_ == nullptr) {
        return failure(ErrorCode::kModel, "no context of " + std::to_string(options.cells) +
                                              " tokens for the model: " + LlamaGuard::messages());
    }
    const bool ranks = options.pooling == Pooling::kRank;
    made->embedding_length_ =
        ranks ? llama_model_n_cls_out(model) : static_cast<std::size_t>(llama_model_n_embd_out(model));
    if (options.pooling == Pooling::kNone && llama_get_memory(made->context_) == nullptr) {
        return failure(ErrorCode::kModel, "the model generates no text, and does not say so");
    }
    made->separate_ = options.layout == CacheLayout::kSeparate;
    made->attention_tiles_ = tiles_of(options, rpc);
    made->can_rewind_ =
        !llama_model_is_recurrent(model) && !llama_model_is_hybrid(model) && llama_model_n_swa(model) == 0;
    made->vocabulary_size_ = static_cast<std::size_t>(llama_vocab_n_tokens(llama_model_get_vocab(model)));
    const auto rows = static_cast<std::size_t>(options.rows_per_step);
    made->tokens_.reserve(rows);
    made->positions_.reserve(rows);
    made->sequences_.reserve(rows);
    made->sequence_counts_.assign(rows, 1);
    made->sequence_pointers_.reserve(rows);
    made->outputs_.reserve(rows);
    made->rows_.reserve(rows);
    made->columns_.assign(rows, 0);
    if (Result<void> works = made->probe(options.threads); !works) {
        return std::unexpected(std::move(works.error()));
    }
    if (made->attention_.computes_all()) made->attention_tiles_ = {};  // it has none
    return made;
}

// One token on this thread alone: ggml checks hyper-parameters only when it computes with them, and only on
// the calling thread can its abort() be turned into an error.
Result<void> LlamaContext::probe(std::int32_t threads) {
    set_threads(1);
    const BatchRow row{.token = 0, .position = 0, .sequence = 0, .output = true};
    Result<void> computed = step({&row, 1});
    erase(0, 0);
    set_threads(threads);
    return computed;
}

LlamaContext::~LlamaContext() {
    if (context_ != nullptr && servers_answer(rpc_)) llama_free(context_);
}

// libllama computes sequences of one pass in the order of their ids, where each has a part of its own.
void LlamaContext::order(std::span<const BatchRow> rows) {
    rows_.resize(rows.size());
    std::ranges::iota(rows_, std::size_t{0});
    if (separate_) std::ranges::stable_sort(rows_, {}, [&](std::size_t row) { return rows[row].sequence; });
    for (std::size_t column = 0; column < rows_.size(); ++column) {
        columns_[rows_[column]] = static_cast<std::int32_t>(column);
    }
}

Result<void> LlamaContext::step(std::span<const BatchRow> rows) {
    check(!rows.empty() && rows.size() <= sequence_counts_.size(), "a step has 1 to rows_per_step rows");
    tokens_.clear();
    positions_.clear();
    sequences_.clear();
    sequence_pointers_.clear();
    outputs_.clear();
    order(rows);
    for (const std::size_t index : rows_) {
        const BatchRow& row = rows[index];
        tokens_.push_back(row.token);
        positions_.push_back(row.position);
        sequences_.push_back(row.sequence);
        sequence_pointers_.push_back(&sequences_.back());  // reserved: does not move
        outputs_.push_back(row.output ? 1 : 0);
    }
    const llama_batch batch{.n_tokens = static_cast<std::int32_t>(rows.size()),
                            .token = tokens_.data(),
                            .embd = nullptr,
                            .pos = positions_.data(),
                            .n_seq_id = sequence_counts_.data(),
                            .seq_id = sequence_pointers_.data(),
                            .logits = outputs_.data()};
    const auto count = static_cast<double>(rows.size());
    budget_.refresh(row_seconds_ * count);
    threads_ = budget_.threads(most_threads_);
    llama_set_n_threads(context_, threads_, threads_);
    const LlamaGuard guard;
    std::int32_t status = 0;
    const Clock::time_point start = Clock::now();
    try {
        const std::shared_lock computing(adapters_.computing);
        status = llama_decode(context_, batch);
        if (status == 0) llama_synchronize(context_);
    } catch (const std::exception& caught) {
        return failure(ErrorCode::kModel, std::string("the model failed to compute: ") + caught.what());
    }
    switch (status) {
        case 0: row_seconds_ = seconds_between(start, Clock::now()) / count; return {};
        case 1: return failure(ErrorCode::kFull, "no room in the KV cache");
        case 2: return failure(ErrorCode::kCancelled, "the engine was stopped");
        default:
            return failure(ErrorCode::kModel, "the model failed to compute (code " + std::to_string(status) +
                                                  "): " + LlamaGuard::messages());
    }
}

// The old one goes only when libllama does not name it any more.
void LlamaContext::apply(const AppliedAdapter& adapter) {
    if (adapter != applied_) {
        auto* weights = adapter.weights == nullptr
                            ? nullptr
                            : static_cast<const LlamaAdapter&>(*adapter.weights).weights();
        float scale = adapter.scale;
        const bool set = llama_set_adapters_lora(context_, &weights, weights == nullptr ? 0 : 1, &scale) == 0;
        check(set, "an adapter that was loaded can be applied");
        applied_ = adapter;
    }
    adapters_.tidy();
}

std::span<float> LlamaContext::logits(std::size_t row) {
    float* first = llama_get_logits_ith(context_, columns_[row]);
    check(first != nullptr, "logits of a row that has none");
    return {first, vocabulary_size_};
}

std::span<const float> LlamaContext::embedding(SequenceId sequence) {
    const float* first = llama_get_embeddings_seq(context_, sequence);
    check(first != nullptr, "the embedding of a sequence that had rows");
    return {first, embedding_length_};
}

void LlamaContext::erase(SequenceId sequence, Position from) {
    // A recurrent state cannot lose only its tail: then nothing is left of it.
    llama_memory_t memory = llama_get_memory(context_);
    if (memory == nullptr) return;  // of a model that keeps nothing between steps
    if (!llama_memory_seq_rm(memory, sequence, from, -1)) llama_memory_seq_rm(memory, sequence, -1, -1);
}

void LlamaContext::fork(SequenceId from, SequenceId to, Position length) {
    llama_memory_seq_cp(llama_get_memory(context_), from, to, 0, length);
}

// Fills `state`. False: it could not be saved.
bool LlamaContext::read_state(SequenceId sequence, Position from, std::vector<std::uint8_t>& state) {
    llama_memory_t memory = llama_get_memory(context_);
    const LlamaGuard guard;
    const SequenceId leaving = from == 0 ? sequence : leaving_;
    std::size_t size = 0;
    try {
        if (from > 0) llama_memory_seq_cp(memory, sequence, leaving, from, -1);
        state.resize(llama_state_seq_get_size(context_, leaving));
        size = llama_state_seq_get_data(context_, state.data(), state.size(), leaving);
    } catch (const std::exception&) {
        size = 0;
    }
    if (from > 0) llama_memory_seq_rm(memory, leaving, -1, -1);
    state.resize(size);
    return size > 0;
}

// `sequence`, empty before, becomes what the state holds. libllama restores it to neighbouring cells.
bool LlamaContext::write_state(SequenceId sequence, std::span<const std::uint8_t> state) {
    const LlamaGuard guard;
    std::size_t restored = 0;
    try {
        restored = llama_state_seq_set_data(context_, state.data(), state.size(), sequence);
    } catch (const std::exception&) {
        restored = 0;
    }
    if (restored == 0) llama_memory_seq_rm(llama_get_memory(context_), sequence, -1, -1);
    return restored > 0;
}

// What the sequence has from `from` on goes only when the state is there.
bool LlamaContext::replace(SequenceId sequence, Position from, std::span<const std::uint8_t> state) {
    if (!write_state(arriving_, state)) return false;
    llama_memory_t memory = llama_get_memory(context_);
    llama_memory_seq_rm(memory, sequence, from, -1);
    llama_memory_seq_cp(memory, arriving_, sequence, from, -1);
    llama_memory_seq_rm(memory, arriving_, -1, -1);
    return true;
}

std::vector<std::uint8_t> LlamaContext::save(SequenceId sequence, Position from) {
    std::vector<std::uint8_t> state;
    if (!rpc_.empty()) return state;  // the cells are on another machine
    read_state(sequence, from, state);
    return state;
}

bool LlamaContext::restore(SequenceId sequence, Position from, std::span<const std::uint8_t> state) {
    return from == 0 ? write_state(sequence, state) : replace(sequence, from, state);
}

void LlamaContext::rename(SequenceId from, SequenceId to) {
    llama_memory_t memory = llama_get_memory(context_);
    llama_memory_seq_cp(memory, from, to, -1, -1);
    llama_memory_seq_rm(memory, from, -1, -1);
}

bool LlamaContext::gather(SequenceId sequence, Position from) {
    const bool moved = read_state(sequence, from, moved_) && replace(sequence, from, moved_);
    constexpr std::size_t kKept = std::size_t{8} << 20;  // what a tail takes, but not a whole text
    if (moved_.capacity() > kKept) std::vector<std::uint8_t>().swap(moved_);
    return moved;
}

// ggml asks between the nodes of its graph, on the engine thread, while the whole team computes.
bool LlamaContext::watch() {
    budget_.observe_machine(threads_);
    return interrupted_.load(std::memory_order_relaxed);
}

std::int32_t LlamaContext::cells() const { return static_cast<std::int32_t>(llama_n_ctx(context_)); }

}  // namespace syncyte
