#include "engine/llama_model.h"

#include <llama.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <utility>

#include "engine/adapter_check.h"
#include "engine/devices.h"
#include "engine/endpoint.h"
#include "engine/gguf_check.h"
#include "engine/llama_adapter.h"
#include "engine/llama_context.h"
#include "engine/llama_guard.h"

namespace syncyte {

namespace {

std::string metadata(const llama_model* model, const std::string& key) {
    std::string value(256, '\0');
    std::int32_t size = llama_model_meta_val_str(model, key.c_str(), value.data(), value.size());
    if (size < 0) return {};
    if (static_cast<std::size_t>(size) >= value.size()) {
        value.resize(static_cast<std::size_t>(size) + 1);
        size = llama_model_meta_val_str(model, key.c_str(), value.data(), value.size());
    }
    value.resize(static_cast<std::size_t>(std::max(size, 0)));
    return value;
}

std::string token_text(const llama_vocab* vocab, Token token) {
    const char* text = token < 0 ? nullptr : llama_vocab_get_text(vocab, token);
    return text == nullptr ? std::string() : std::string(text);
}

Pooling pooling_of(const std::string& number) {
    if (number == "1") return Pooling::kMean;
    if (number == "2") return Pooling::kCls;
    if (number == "3") return Pooling::kLast;
    return number == "4" ? Pooling::kRank : Pooling::kNone;
}

// Of a model whose tokens see what comes after them too. Not every file says so.
bool is_causal(const llama_model* model, const std::string& architecture) {
    if (const std::string said = metadata(model, architecture + ".attention.causal"); !said.empty()) {
        return said != "false";
    }
    return !architecture.contains("bert") && !architecture.ends_with("-embed") &&
           !architecture.ends_with("-embedding");
}

ModelInfo describe(const llama_model* model) {
    const llama_vocab* vocab = llama_model_get_vocab(model);
    ModelInfo info;
    info.name = metadata(model, "general.name");
    info.architecture = metadata(model, "general.architecture");
    std::array<char, 256> text{};
    llama_model_desc(model, text.data(), text.size());
    info.description = text.data();
    // libllama marks a type it had to guess from the tensors.
    info.quantization = llama_ftype_name(llama_model_ftype(model));
    if (info.quantization.starts_with("(guessed) ")) info.quantization.erase(0, 10);
    if (info.quantization.starts_with("all ")) info.quantization.erase(0, 4);
    if (const char* chat = llama_model_chat_template(model, nullptr)) info.chat_template = chat;
    if (const char* rerank = llama_model_chat_template(model, "rerank")) info.rerank_template = rerank;
    info.bos_text = token_text(vocab, llama_vocab_bos(vocab));
    info.eos_text = token_text(vocab, llama_vocab_eos(vocab));
    info.parameters = llama_model_n_params(model);
    info.bytes = llama_model_size(model);
    info.vocabulary_size = llama_vocab_n_tokens(vocab);
    info.embedding_length = llama_model_n_embd(model);
    info.layers = llama_model_n_layer(model);
    info.heads = llama_model_n_head(model);
    info.kv_heads = llama_model_n_head_kv(model);
    info.trained_context = llama_model_n_ctx_train(model);
    info.embedding_output = llama_model_n_embd_out(model);
    info.pooling = pooling_of(metadata(model, info.architecture + ".pooling_type"));
    if (info.pooling == Pooling::kRank) {
        info.rank_outputs = static_cast<std::int32_t>(llama_model_n_cls_out(model));
    }
    info.causal = is_causal(model, info.architecture);
    info.generates = info.causal;
    info.adds_bos = llama_vocab_get_add_bos(vocab);
    return info;
}

class LlamaModel final : public Model, public std::enable_shared_from_this<LlamaModel> {
  public:
    LlamaModel(llama_model* model, std::vector<std::string> rpc)
        : model_(model), vocab_(llama_model_get_vocab(model)), rpc_(std::move(rpc)), info_(describe(model)) {
        for (Token token = 0; token < info_.vocabulary_size; ++token) {
            if (llama_vocab_is_eog(vocab_, token)) end_tokens_.push_back(token);
            // What the tokenizer only recognises in text when asked to.
            constexpr int kSpecial = LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_UNKNOWN;
            if ((llama_vocab_get_attr(vocab_, token) & kSpecial) == 0) continue;
            if (std::string text = token_text(vocab_, token); !text.empty()) {
                control_texts_.push_back(std::move(text));
            }
        }
    }
    ~LlamaModel() override {
        // Without the servers nothing of theirs can be freed.
        if (servers_answer(rpc_)) {
            adapters_.reset();  // before what they belong to
            llama_model_free(model_);
        } else {
            [[maybe_unused]] const auto* const left = adapters_.release();
        }
    }

    [[nodiscard]] const ModelInfo& info() const override { return info_; }
    [[nodiscard]] std::span<const Token> end_tokens() const override { return end_tokens_; }
    [[nodiscard]] const std::vector<std::string>& control_texts() const override { return control_texts_; }

    Result<std::vector<Token>> tokenize(std::string_view text, AddSpecial add,
                                        ParseSpecial parse) const override;
    Result<std::vector<Token>> tokenize_pair(std::string_view query,
                                             std::string_view document) const override;
    Result<void> append_piece(Token token, ParseSpecial special, std::string& bytes) const override;
    Result<std::string> detokenize(std::span<const Token> tokens) const override;
    Result<std::string> apply_template(const std::string& chat_template,
                                       std::span<const ChatMessage> messages,
                                       bool add_generation_prompt) const override;
    [[nodiscard]] Result<std::unique_ptr<Context>> make_context(
        const ContextOptions& options) const override {
        return LlamaContext::make(model_, rpc_, *adapters_, options);
    }
    [[nodiscard]] Result<std::shared_ptr<const Adapter>> load_adapter(const std::string& path) const override;

  private:
    [[nodiscard]] Result<void> check_token(Token token) const {
        if (token >= 0 && token < info_.vocabulary_size) return {};
        return failure(ErrorCode::kInvalidArgument, "token " + std::to_string(token) +
                                                        " is not in the vocabulary (0 to " +
                                                        std::to_string(info_.vocabulary_size - 1) + ")");
    }

    [[nodiscard]] Result<void> try_out(const std::shared_ptr<const Adapter>& adapter) const;

    llama_model* model_;
    std::unique_ptr<LlamaAdapters> adapters_ = std::make_unique<LlamaAdapters>();
    const llama_vocab* vocab_;
    const std::vector<std::string> rpc_;
    ModelInfo info_;
    std::vector<Token> end_tokens_;
    std::vector<std::string> control_texts_;
};

Result<std::vector<Token>> LlamaModel::tokenize(std::string_view text, AddSpecial add,
                                                ParseSpecial parse) const {
    constexpr std::size_t kLongest = 1U << 30;
    if (text.size() > kLongest) {
        return failure(ErrorCode::kInvalidArgument, "the text is longer than 1 GiB");
    }
    // At most one token a byte, plus the special ones at both ends and a space in front.
    std::vector<Token> tokens(text.size() + 8);
    const LlamaGuard guard;
    try {
        for (int attempt = 0; attempt < 2; ++attempt) {
            const std::int32_t count =
                llama_tokenize(vocab_, text.data(), static_cast<std::int32_t>(text.size()), tokens.data(),
                               static_cast<std::int32_t>(tokens.size()), add == AddSpecial::kYes,
                               parse == ParseSpecial::kYes);
            tokens.resize(static_cast<std::size_t>(std::abs(count)));
            if (count >= 0) return tokens;
        }
    } catch (const std::exception& caught) {
        return failure(ErrorCode::kModel, std::string("cannot tokenize: ") + caught.what());
    }
    return failure(ErrorCode::kModel, "cannot tokenize: the vocabulary is broken");
}

// [begin] query [end] [separator] document [end], of those that the vocabulary wants; one that knows no end
// ends with a separator.
Result<std::vector<Token>> LlamaModel::tokenize_pair(std::string_view query,
                                                     std::string_view document) const {
    const auto mark = [](bool wanted, Token token) { return wanted ? token : LLAMA_TOKEN_NULL; };
    const Token begin = mark(llama_vocab_get_add_bos(vocab_), llama_vocab_bos(vocab_));
    const Token end = mark(llama_vocab_get_add_eos(vocab_), llama_vocab_eos(vocab_));
    const Token separator = mark(llama_vocab_get_add_sep(vocab_), llama_vocab_sep(vocab_));
    std::vector<Token> pair;
    const auto add = [&pair](Token token) {
        if (token != LLAMA_TOKEN_NULL) pair.push_back(token);
    };
    const Result<std::vector<Token>> first = tokenize(query, AddSpecial::kNo, ParseSpecial::kNo);
    if (!first) return first;
    const Result<std::vector<Token>> second = tokenize(document, AddSpecial::kNo, ParseSpecial::kNo);
    if (!second) return second;
    add(begin);
    pair.append_range(*first);
    add(end);
    add(separator);
    pair.append_range(*second);
    add(end != LLAMA_TOKEN_NULL ? end : separator);
    return pair;
}

Result<void> LlamaModel::append_piece(Token token, ParseSpecial special, std::string& bytes) const {
    if (Result<void> known = check_token(token); !known) return known;
    const std::size_t before = bytes.size();
    std::size_t room = 64;
    const LlamaGuard guard;
    try {
        for (int attempt = 0; attempt < 2; ++attempt) {
            bytes.resize(before + room);
            const std::int32_t size =
                llama_token_to_piece(vocab_, token, bytes.data() + before, static_cast<std::int32_t>(room), 0,
                                     special == ParseSpecial::kYes);
            room = static_cast<std::size_t>(std::abs(size));
            if (size >= 0) break;
        }
    } catch (const std::exception& caught) {
        bytes.resize(before);
        return failure(ErrorCode::kModel, std::string("cannot detokenize: ") + caught.what());
    }
    bytes.resize(before + room);
    return {};
}

Result<std::string> LlamaModel::detokenize(std::span<const Token> tokens) const {
    for (const Token token : tokens) {
        if (Result<void> known = check_token(token); !known) return std::unexpected(std::move(known.error()));
    }
    std::string text(tokens.size() * 8 + 16, '\0');
    const LlamaGuard guard;
    try {
        for (int attempt = 0; attempt < 2; ++attempt) {
            const std::int32_t size = llama_detokenize(
                vocab_, tokens.data(), static_cast<std::int32_t>(tokens.size()), text.data(),
                static_cast<std::int32_t>(text.size()), /*remove_special=*/true, /*unparse_special=*/false);
            text.resize(static_cast<std::size_t>(std::abs(size)));
            if (size >= 0) return text;
        }
    } catch (const std::exception& caught) {
        return failure(ErrorCode::kModel, std::string("cannot detokenize: ") + caught.what());
    }
    return failure(ErrorCode::kModel, "cannot detokenize: the vocabulary is broken");
}

Result<std::string> LlamaModel::apply_template(const std::string& chat_template,
                                               std::span<const ChatMessage> messages,
                                               bool add_generation_prompt) const {
    std::vector<llama_chat_message> chat;
    chat.reserve(messages.size());
    std::size_t room = 256;
    for (const ChatMessage& message : messages) {
        chat.push_back({message.role.c_str(), message.content.c_str()});
        room += 2 * (message.role.size() + message.content.size()) + 64;
    }
    std::string text;
    const LlamaGuard guard;
    try {
        for (int attempt = 0; attempt < 2; ++attempt) {
            text.resize(room);
            const std::int32_t size = llama_chat_apply_template(chat_template.c_str(), chat.data(),
                                                                chat.size(), add_generation_prompt,
                                                                text.data(), static_cast<std::int32_t>(room));
            if (size < 0) break;
            if (static_cast<std::size_t>(size) <= room) {
                text.resize(static_cast<std::size_t>(size));
                return text;
            }
            room = static_cast<std::size_t>(size);
        }
    } catch (const std::exception& caught) {
        return failure(ErrorCode::kModel, std::string("the chat template failed: ") + caught.what());
    }
    return failure(ErrorCode::kInvalidArgument,
                   "the model's chat template is not one that libllama knows; with jinja2 installed any is");
}

// Brings the file into memory, so that reading it again is quick.
void read_through(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::vector<char> piece(std::size_t{1} << 20);
    while (file.read(piece.data(), static_cast<std::streamsize>(piece.size()))) {
    }
}

Result<std::shared_ptr<const Adapter>> LlamaModel::load_adapter(const std::string& path) const {
    const auto named = [&path](Error error) {
        error.message = path + ": " + error.message;
        return std::unexpected(std::move(error));
    };
    if (Result<void> sound = check_gguf(path); !sound) return named(std::move(sound.error()));
    const std::string experts = metadata(model_, info_.architecture + ".expert_count");
    const AdapterBase base{.architecture = info_.architecture, .experts = std::atoll(experts.c_str())};
    if (Result<void> fits = check_adapter(path, base); !fits) return named(std::move(fits.error()));
    read_through(path);  // steps wait while libllama reads it
    const LlamaGuard guard;
    try {
        llama_adapter_lora* loaded = adapters_->load(model_, path);
        if (loaded == nullptr) {
            return named(
                Error(ErrorCode::kModel, "not an adapter for this model: " + LlamaGuard::messages()));
        }
        auto adapter = std::make_shared<const LlamaAdapter>(loaded, shared_from_this(), *adapters_);
        if (Result<void> works = try_out(adapter); !works) return named(std::move(works.error()));
        return adapter;
    } catch (const std::exception& caught) {
        return named(
            Error(ErrorCode::kModel, std::string("not an adapter for this model: ") + caught.what()));
    }
}

// One token in a context of its own, on this thread alone, where an abort() of ggml becomes an error.
Result<void> LlamaModel::try_out(const std::shared_ptr<const Adapter>& adapter) const {
    auto context = make_context({.cells = 32, .max_sequences = 1, .rows_per_step = 8, .threads = 1});
    if (!context) return std::unexpected(std::move(context.error()));
    (*context)->apply({.weights = adapter, .scale = 1});
    const BatchRow row{.token = 0, .position = 0, .sequence = 0, .output = true};
    if (Result<void> computed = (*context)->step({&row, 1}); !computed) return computed;
    const std::span<const float> logits = (*context)->logits(0);
    if (std::ranges::all_of(logits, [](float logit) { return std::isfinite(logit); })) return {};
    return failure(ErrorCode::kModel, "with this adapter the model computes no numbers (NaN or infinity)");
}

Result<void> check_usable(const llama_model* model) {
    const llama_vocab* vocab = llama_model_get_vocab(model);
    if (llama_vocab_type(vocab) == LLAMA_VOCAB_TYPE_NONE || llama_vocab_n_tokens(vocab) <= 0) {
        return failure(ErrorCode::kModel, "the file has no vocabulary");
    }
    if (llama_model_has_encoder(model)) {
        return failure(ErrorCode::kModel, "encoder models cannot generate text; use a decoder-only model");
    }
    if (llama_model_is_diffusion(model)) {
        return failure(ErrorCode::kModel, "diffusion models are not supported; use a decoder-only model");
    }
    return {};
}

}  // namespace

Result<std::shared_ptr<const Model>> load_llama_model(const std::string& path, const LoadOptions& options) {
    const auto named = [&path](Error error) {
        error.message = path + ": " + error.message;
        return std::unexpected(std::move(error));
    };
    if (Result<void> sound = check_gguf(path); !sound) return named(std::move(sound.error()));
    const LlamaGuard guard;
    try {
        llama_model_params params = llama_model_default_params();
        if (options.gpu_layers) params.n_gpu_layers = *options.gpu_layers;
        Result<std::vector<ggml_backend_dev_t>> devices;
        if (options.devices || !options.rpc.empty()) {
            devices = find_devices(options.devices, options.rpc);
            if (!devices) return std::unexpected(std::move(devices.error()));
            params.devices = devices->data();
        }
        llama_model* loaded = llama_model_load_from_file(path.c_str(), params);
        if (loaded == nullptr) {
            return named(Error(ErrorCode::kModel, "not a usable model: " + LlamaGuard::messages()));
        }
        auto model = std::make_shared<LlamaModel>(loaded, options.rpc);
        if (Result<void> usable = check_usable(loaded); !usable) return named(std::move(usable.error()));
        return model;
    } catch (const std::exception& caught) {
        return named(Error(ErrorCode::kModel, std::string("not a usable model: ") + caught.what()));
    }
}

}  // namespace syncyte
