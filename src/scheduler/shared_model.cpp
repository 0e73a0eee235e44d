#include "scheduler/shared_model.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <limits>
#include <map>
#include <mutex>
#include <system_error>
#include <utility>

#include "base/cpu.h"
#include "engine/endpoint.h"
#include "engine/llama_model.h"
#include "scheduler/adapter_cache.h"
#include "scheduler/embedding_queue.h"
#include "scheduler/engine_thread.h"
#include "scheduler/file_id.h"
#include "scheduler/grammar_cache.h"

namespace syncyte {

namespace {

constexpr std::int32_t kDefaultContext = 4096;
constexpr std::int32_t kDefaultSequences = 16;
constexpr std::int32_t kMostSequences = 256;  // libllama's limit
constexpr std::int32_t kMostThreads = 512;    // ggml's limit
constexpr std::int32_t kMostContext = 1 << 24;
constexpr std::int32_t kMostLayers = 100'000;
constexpr std::int32_t kDefaultCells = 4096;  // more only for a longer context_length, or as asked for
constexpr std::int32_t kLeastPart = 256;      // of a sequence that has its own part of the cache
constexpr std::int32_t kRowsPerStep = 128;
// Where each sequence has its own part, a step is computed in as many passes as its sequences differ in rows:
// fewer, larger steps have fewer of them. Twice as many rows gained no more than the noise, and take memory
// for their logits.
constexpr std::int32_t kRowsOfParts = 256;
constexpr std::size_t kMostSalt = 1024;  // bytes

std::atomic<std::size_t> open_count{0};

Result<void> check_range(const char* name, const std::optional<std::int32_t>& value, std::int32_t least,
                         std::int32_t most) {
    if (!value || (*value >= least && *value <= most)) return {};
    return failure(ErrorCode::kInvalidArgument, std::string(name) + " must be " + std::to_string(least) +
                                                    " to " + std::to_string(most) + ", not " +
                                                    std::to_string(*value));
}

Result<void> check_ranges(const ModelOptions& options) {
    if (auto fits = check_range("context_length", options.context_length, 2, kMostContext); !fits)
        return fits;
    if (auto fits = check_range("max_sequences", options.max_sequences, 1, kMostSequences); !fits)
        return fits;
    if (options.cache_tokens && options.layout == CacheLayout::kSeparate) {
        return failure(ErrorCode::kInvalidArgument,
                       "kv_unified=False takes context_length × max_sequences tokens of KV cache: leave "
                       "cache_tokens out");
    }
    const std::int32_t least_cells = options.context_length.value_or(2);
    if (auto fits = check_range("cache_tokens", options.cache_tokens, least_cells, kMostContext); !fits) {
        if (options.context_length) fits.error().message += ": one text takes context_length of them";
        return fits;
    }
    if (auto fits = check_range("threads", options.threads, 1, kMostThreads); !fits) return fits;
    if (auto fits = check_range("gpu_layers", options.gpu_layers, -1, kMostLayers); !fits) return fits;
    if (options.cache_types && need_flash_attention(*options.cache_types) &&
        options.flash_attention == FlashAttention::kOff) {
        return failure(ErrorCode::kInvalidArgument,
                       "kv_type=\"" + to_string(*options.cache_types) +
                           "\" needs flash attention: leave flash_attention out, or quantise the keys only "
                           "(\"q8_0,f16\")");
    }
    for (const std::string& server : options.rpc.value_or(std::vector<std::string>())) {
        if (auto fits = check_endpoint(server); !fits) return fits;
    }
    return check_range("max_waiting", options.max_waiting, 0, std::numeric_limits<std::int32_t>::max());
}

LoadOptions load_options(const ModelOptions& options) {
    return {.gpu_layers = options.gpu_layers,
            .devices = options.devices,
            .rpc = options.rpc.value_or(std::vector<std::string>())};
}

Result<void> check_same(const char* name, const std::optional<std::int32_t>& wanted, std::int32_t actual) {
    if (!wanted || *wanted == actual) return {};
    return failure(ErrorCode::kInvalidArgument, "this process has the model open with " + std::string(name) +
                                                    "=" + std::to_string(actual) + ", not " +
                                                    std::to_string(*wanted) +
                                                    "; leave the option out, or close the model first");
}

// Where the weights are is decided once: they are not read again for who wants them elsewhere.
Result<void> check_same_place(const ModelOptions& wanted, const LoadOptions& actual) {
    const char* other = nullptr;
    if (wanted.gpu_layers && wanted.gpu_layers != actual.gpu_layers) other = "gpu_layers";
    if (wanted.devices && wanted.devices != actual.devices) other = "devices";
    if (wanted.rpc && *wanted.rpc != actual.rpc) other = "rpc";
    if (other == nullptr) return {};
    return failure(ErrorCode::kInvalidArgument, std::string("this process has the model open with other ") +
                                                    other +
                                                    "; leave the option out, or close the model first (and "
                                                    "those that have it as their draft model)");
}

}  // namespace

struct SharedModel::Core {
    std::string path;
    std::string draft_path;            // empty: no draft model
    std::optional<FileId> draft_file;  // of it
    std::int32_t threads = 1;
    CacheTypes cache_types;
    FlashAttention flash_attention = FlashAttention::kAuto;
    std::shared_ptr<const Model> model;
    SchedulerOptions limits;
    std::shared_ptr<Scheduler> scheduler;  // null: the model only embeds
    GrammarCache grammars;
    std::mutex embedding_mutex;
    std::map<Pooling, std::shared_ptr<EmbeddingQueue>> embedding;  // those that were ever asked for
    AdapterCache adapters;
    std::atomic<int> users{0};  // holds on it; requests that outlive them keep it too, but nobody joins it

    Core() { ++open_count; }
    ~Core() {
        // The scheduler takes the weights along, and the context goes before them.
        model = nullptr;
        if (scheduler) EngineThread::of_process().remove(std::move(scheduler));
        for (auto& [pooling, queue] : embedding) EngineThread::of_process().remove(std::move(queue));
        --open_count;
    }
    Core(const Core&) = delete;
    Core& operator=(const Core&) = delete;

    // What a request holds.
    static std::shared_ptr<const Model> model_of(const std::shared_ptr<Core>& core) {
        return {core, core->model.get()};
    }
};

// Which files are open. Of files being loaded, others wait for the outcome.
class ModelRegistry {
  public:
    static ModelRegistry& of_process() {
        static auto* const registry = new ModelRegistry;
        return *registry;
    }

    Result<Ref<SharedModel>> open(const std::string& path, const ModelOptions& options) {
        if (auto usable = EngineThread::of_process().usable(); !usable) {
            return std::unexpected(std::move(usable.error()));
        }
        if (auto fits = check_ranges(options); !fits) return std::unexpected(std::move(fits.error()));
        const Result<FileId> file = identify(path);
        if (!file) return std::unexpected(file.error());
        Draft draft;
        if (options.draft_model) {
            // Before the model: who loads one never waits for another.
            if (auto found = open_draft(*options.draft_model, draft); !found) {
                return std::unexpected(std::move(found.error()));
            }
        }

        std::unique_lock lock(mutex_);
        Entry& entry = settled_entry(lock, *file);
        std::shared_ptr<const Model> weights = entry.weights.lock();
        if (weights) {
            if (auto same = check_same_place(options, entry.place); !same) {
                if (in_use(*file)) return std::unexpected(std::move(same.error()));
                weights = nullptr;  // they go with the last requests of those who have closed the model
            }
        }
        if (weights) {
            if (auto core = entry.fitting(options, draft.file)) return join(std::move(core), options);
        }
        Loading loading(*this, lock, entry);
        Result<std::shared_ptr<SharedModel::Core>> core = load(path, options, weights, draft);
        loading.ended();
        if (!core) return std::unexpected(std::move(core.error()));
        if (!weights) entry.place = load_options(options);
        entry.weights = (*core)->model;
        entry.engines.emplace_back(*core);
        return Ref<SharedModel>::adopt(new SharedModel(std::move(*core)));
    }

  private:
    // A draft model's file and its weights; none where `file` is empty.
    struct Draft {
        std::string path;  // absolute
        std::optional<FileId> file;
        std::shared_ptr<const Model> weights;
    };

    // A file: its weights, and the engines that use them, which differ in how they keep the KV cache.
    struct Entry {
        std::weak_ptr<const Model> weights;
        LoadOptions place;
        std::vector<std::weak_ptr<SharedModel::Core>> engines;
        bool loading = false;

        // Nobody uses it, and nobody is loading it. Drops engines that are gone.
        bool forgotten() {
            std::erase_if(engines, [](const auto& engine) { return engine.expired(); });
            return engines.empty() && weights.expired() && !loading;
        }

        // The engine that is as wanted and that somebody uses, the oldest first. One that has only requests
        // of users who are gone ends with them: whoever opens the model anew gets what they ask for.
        [[nodiscard]] std::shared_ptr<SharedModel::Core> fitting(const ModelOptions& wanted,
                                                                 const std::optional<FileId>& draft) const {
            for (const auto& engine : engines) {
                auto core = engine.lock();
                if (core && core->users > 0 &&
                    (!wanted.cache_types || *wanted.cache_types == core->cache_types) &&
                    (!wanted.flash_attention || *wanted.flash_attention == core->flash_attention) &&
                    (!wanted.layout || *wanted.layout == core->limits.layout) &&
                    (!draft || draft == core->draft_file)) {
                    return core;
                }
            }
            return nullptr;
        }
    };

    // Marks an entry as being loaded, with the registry unlocked until ended(): nobody else touches the entry
    // meanwhile. Whatever happens, those who wait for it go on afterwards.
    class Loading {
      public:
        Loading(ModelRegistry& registry, std::unique_lock<std::mutex>& lock, Entry& entry)
            : registry_(registry), lock_(lock), entry_(entry) {
            entry_.loading = true;
            lock_.unlock();
        }
        ~Loading() {
            ended();
            entry_.loading = false;
            registry_.loaded_.notify_all();
        }
        Loading(const Loading&) = delete;
        Loading& operator=(const Loading&) = delete;

        // The registry is locked again; the entry is still the loader's.
        void ended() {
            if (!lock_.owns_lock()) lock_.lock();
        }

      private:
        ModelRegistry& registry_;
        std::unique_lock<std::mutex>& lock_;
        Entry& entry_;
    };

    // With the registry locked: whether somebody holds an engine that has the file as its model, or as its
    // draft model.
    [[nodiscard]] bool in_use(const FileId& file) const {
        for (const auto& [id, entry] : entries_) {
            for (const auto& engine : entry.engines) {
                const auto core = engine.lock();
                if (core && core->users > 0 && (id == file || core->draft_file == file)) return true;
            }
        }
        return false;
    }

    // The entry of a file that nobody is loading.
    Entry& settled_entry(std::unique_lock<std::mutex>& lock, const FileId& file) {
        loaded_.wait(lock, [&] { return !entries_.contains(file) || !entries_[file].loading; });
        std::erase_if(entries_, [](auto& entry) { return entry.second.forgotten(); });
        return entries_[file];
    }

    // The weights of a draft model: those of whoever has the file open, wherever they are, or read now.
    Result<void> open_draft(const std::string& path, Draft& draft) {
        const auto explained = [](const Error& error) {
            return failure(error.code, "draft_model: " + error.message);
        };
        const Result<FileId> file = identify(path);
        if (!file) return explained(file.error());
        std::error_code ignored;
        draft.path = std::filesystem::absolute(path, ignored).string();
        draft.file = *file;
        std::unique_lock lock(mutex_);
        Entry& entry = settled_entry(lock, *file);
        draft.weights = entry.weights.lock();
        if (draft.weights) return {};
        Loading loading(*this, lock, entry);
        Result<std::shared_ptr<const Model>> model = load_llama_model(path, {});
        loading.ended();
        if (!model) return explained(model.error());
        entry.place = {};
        entry.weights = draft.weights = std::move(*model);
        return {};
    }

    static Result<std::unique_ptr<DraftModel>> make_draft_model(const Draft& draft, const Model& model,
                                                                const SchedulerOptions& limits,
                                                                std::int32_t threads) {
        if (auto fits = DraftModel::check_fits(model, *draft.weights); !fits) {
            return std::unexpected(std::move(fits.error()));
        }
        const std::int32_t trained = draft.weights->info().trained_context;
        DraftOptions options{
            .sequences = Scheduler::context_sequences(limits.max_sequences, CacheLayout::kUnified),
            .context_length = trained > 0 ? std::min(limits.context_length, trained) : limits.context_length,
            .cells = limits.cells,
            .rows_per_step = limits.rows_per_step,
            .vocabulary = model.info().vocabulary_size};
        auto context = draft.weights->make_context({.cells = options.cells,
                                                    .max_sequences = options.sequences,
                                                    .rows_per_step = options.rows_per_step,
                                                    .threads = threads});
        if (!context) return std::unexpected(std::move(context.error()));
        if (!(*context)->can_rewind()) {
            return failure(ErrorCode::kInvalidArgument,
                           "its state is recurrent, so guesses cannot be taken back");
        }
        return std::make_unique<DraftModel>(draft.weights, std::move(*context), options);
    }

    static Result<Ref<SharedModel>> join(std::shared_ptr<SharedModel::Core> core,
                                         const ModelOptions& options) {
        const SchedulerOptions& limits = core->limits;
        Result<void> same = check_same("context_length", options.context_length, limits.context_length);
        if (same) same = check_same("max_sequences", options.max_sequences, limits.max_sequences);
        if (same) same = check_same("cache_tokens", options.cache_tokens, limits.cells);
        if (same) same = check_same("threads", options.threads, core->threads);
        if (same) same = check_same("max_waiting", options.max_waiting, limits.max_waiting);
        if (!same) return std::unexpected(std::move(same.error()));
        return Ref<SharedModel>::adopt(new SharedModel(std::move(core)));
    }

    // What is wrong with a file shows when it computes first: better now than with the first text.
    static Result<void> try_embedding(const Model& model) {
        const Pooling said = model.info().pooling;
        const auto context = model.make_context({.cells = 32,
                                                 .max_sequences = 1,
                                                 .rows_per_step = 32,
                                                 .pooling = said == Pooling::kNone ? Pooling::kMean : said});
        if (!context) return std::unexpected(context.error());
        return {};
    }

    // On `weights`, if there are any.
    static Result<std::shared_ptr<SharedModel::Core>> load(const std::string& path,
                                                           const ModelOptions& options,
                                                           std::shared_ptr<const Model> weights,
                                                           const Draft& draft) {
        Result<std::shared_ptr<const Model>> model = std::move(weights);
        if (*model == nullptr) model = load_llama_model(path, load_options(options));
        if (!model) return std::unexpected(std::move(model.error()));
        SchedulerOptions limits;
        limits.max_sequences = options.max_sequences.value_or(kDefaultSequences);
        limits.layout = options.layout.value_or(CacheLayout::kUnified);
        const bool separate = limits.layout == CacheLayout::kSeparate;
        const std::int32_t most =
            separate ? std::max(kDefaultCells / limits.max_sequences, kLeastPart) : kDefaultContext;
        const std::int32_t usual = std::clamp((*model)->info().trained_context, 2, most);
        limits.context_length =
            options.context_length.value_or(std::min(usual, options.cache_tokens.value_or(usual)));
        // Places beyond those it was trained with do not exist in it.
        if (!(*model)->info().generates && (*model)->info().trained_context > 0) {
            limits.context_length = std::min(limits.context_length, (*model)->info().trained_context);
        }
        // Room for all sequences at full length where that is little, or each has a part of its own.
        const std::int64_t all = std::int64_t{limits.context_length} * limits.max_sequences;
        if (separate && all > kMostContext) {
            return failure(ErrorCode::kInvalidArgument,
                           "kv_unified=False takes context_length × max_sequences = " + std::to_string(all) +
                               " tokens of KV cache, and " + std::to_string(kMostContext) + " is the limit");
        }
        limits.cells = options.cache_tokens.value_or(
            std::max(limits.context_length,
                     static_cast<std::int32_t>(std::min<std::int64_t>(all, separate ? all : kDefaultCells))));
        if (options.max_waiting) limits.max_waiting = *options.max_waiting;
        limits.rows_per_step = std::max(separate ? kRowsOfParts : kRowsPerStep, limits.max_sequences);

        auto core = std::make_shared<SharedModel::Core>();
        core->threads = options.threads.value_or(usable_cores());
        core->cache_types = options.cache_types.value_or(CacheTypes{});
        core->flash_attention = options.flash_attention.value_or(FlashAttention::kAuto);
        std::error_code ignored;
        core->path = std::filesystem::absolute(path, ignored).string();
        core->model = *model;
        core->limits = limits;
        core->draft_path = draft.path;
        core->draft_file = draft.file;
        std::unique_ptr<DraftModel> draft_model;
        if (draft.file) {
            auto made = make_draft_model(draft, **model, limits, core->threads);
            if (!made) {
                return failure(made.error().code, "draft_model: " + draft.path + ": " + made.error().message);
            }
            draft_model = std::move(*made);
        }
        if (!(*model)->info().generates) {
            if (auto computes = try_embedding(**model); !computes) {
                computes.error().message = path + ": " + computes.error().message;
                return std::unexpected(std::move(computes.error()));
            }
            return core;
        }
        auto context = (*model)->make_context(
            {.cells = limits.cells,
             .max_sequences = Scheduler::context_sequences(limits.max_sequences, limits.layout),
             .rows_per_step = limits.rows_per_step,
             .threads = core->threads,
             .cache_types = core->cache_types,
             .flash_attention = core->flash_attention,
             .layout = limits.layout});
        if (!context) {
            context.error().message = path + ": " + context.error().message;
            return std::unexpected(std::move(context.error()));
        }
        core->scheduler = std::make_shared<Scheduler>(std::move(*model), std::move(*context), limits,
                                                      std::move(draft_model));
        if (auto added = EngineThread::of_process().add(core->scheduler); !added) {
            return std::unexpected(std::move(added.error()));
        }
        return core;
    }

    std::mutex mutex_;
    std::condition_variable loaded_;
    std::map<FileId, Entry> entries_;
};

Result<Ref<SharedModel>> SharedModel::open(const std::string& path, const ModelOptions& options) {
    return ModelRegistry::of_process().open(path, options);
}

SharedModel::SharedModel(std::shared_ptr<Core> core) : core_(std::move(core)) { ++core_->users; }

SharedModel::~SharedModel() { --core_->users; }

Ref<SharedModel> SharedModel::again() const { return Ref<SharedModel>::adopt(new SharedModel(core_)); }

const Model& SharedModel::model() const { return *core_->model; }

const std::string& SharedModel::path() const { return core_->path; }

const std::string& SharedModel::draft_path() const { return core_->draft_path; }

std::int32_t SharedModel::threads() const { return core_->threads; }

const SchedulerOptions& SharedModel::limits() const { return core_->limits; }

const CacheTypes& SharedModel::cache_types() const { return core_->cache_types; }

FlashAttention SharedModel::flash_attention() const { return core_->flash_attention; }

SchedulerStats SharedModel::stats() const {
    return core_->scheduler ? core_->scheduler->stats() : SchedulerStats{};
}

Result<std::shared_ptr<GrammarMachine>> SharedModel::grammar(const std::string& text) const {
    return core_->grammars.get(*core_->model, text);
}

Result<std::shared_ptr<const Adapter>> SharedModel::adapter(const std::string& path) const {
    EngineThread& engine = EngineThread::of_process();
    if (Result<void> can = engine.usable(); !can) return std::unexpected(std::move(can.error()));
    return core_->adapters.get(*core_->model, path);
}

Result<Ref<Request>> SharedModel::submit(RequestOptions options) const {
    if (options.adapter.weights != nullptr && options.adapter.weights->model() != core_->model.get()) {
        return failure(ErrorCode::kInvalidArgument,
                       "the LoRA adapter was loaded for another model; load it by this one's lora()");
    }
    if (options.cache_salt.size() > kMostSalt) {
        return failure(ErrorCode::kInvalidArgument,
                       "cache_salt has " + std::to_string(options.cache_salt.size()) + " bytes, and " +
                           std::to_string(kMostSalt) + " is the limit: every text in the cache has a copy");
    }
    if (options.adapter.scale == 0) options.adapter = {};  // the model alone, in one batch with others
    EngineThread& engine = EngineThread::of_process();
    if (Result<void> can = engine.usable(); !can) return std::unexpected(std::move(can.error()));
    if (!core_->scheduler) {
        return failure(ErrorCode::kInvalidArgument,
                       "this model generates no text: it is for embed() and rerank()");
    }
    if (Result<void> fits = core_->scheduler->check_prompt(options.prompt.size()); !fits) {
        return std::unexpected(std::move(fits.error()));
    }
    Ref<Request> request = make_ref<Request>(std::move(options), Core::model_of(core_));
    if (Result<void> taken = core_->scheduler->submit(request); !taken) {
        return std::unexpected(std::move(taken.error()));
    }
    engine.wake();
    return request;
}

Result<Ref<EmbeddingJob>> SharedModel::embed(EmbeddingJob::Texts texts, Pooling pooling,
                                             Normalize normalize) const {
    EngineThread& engine = EngineThread::of_process();
    if (Result<void> can = engine.usable(); !can) return std::unexpected(std::move(can.error()));
    const ModelInfo& info = core_->model->info();
    if (pooling == Pooling::kRank && info.pooling != Pooling::kRank) {
        return failure(ErrorCode::kInvalidArgument, "this model was not made to rank texts");
    }
    const auto longest = static_cast<std::size_t>(core_->limits.context_length);
    for (std::size_t i = 0; i < texts.size(); ++i) {
        if (!texts[i].empty() && texts[i].size() <= longest) continue;
        return failure(
            ErrorCode::kInvalidArgument,
            "text " + std::to_string(i) + " has " +
                (texts[i].empty() ? "no tokens"
                                  : std::to_string(texts[i].size()) + " tokens, and the model takes " +
                                        std::to_string(longest) + " of one text (context_length)"));
    }
    const auto length =
        static_cast<std::size_t>(pooling == Pooling::kRank ? info.rank_outputs : info.embedding_output);
    auto job = make_ref<EmbeddingJob>(std::move(texts), length, normalize, Core::model_of(core_));
    std::shared_ptr<EmbeddingQueue> queue;
    {
        const std::scoped_lock lock(core_->embedding_mutex);
        queue = core_->embedding[pooling];
        if (!queue) {
            queue = std::make_shared<EmbeddingQueue>(
                core_->model,
                EmbeddingOptions{
                    .pooling = pooling, .longest = core_->limits.context_length, .threads = core_->threads});
            if (auto added = engine.add(queue); !added) return std::unexpected(std::move(added.error()));
            core_->embedding[pooling] = queue;
        }
    }
    queue->submit(job);
    engine.wake();
    return job;
}

std::size_t open_models() { return open_count.load(); }

}  // namespace syncyte
