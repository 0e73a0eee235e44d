#include "engine/adapter_check.h"

#include <ggml.h>
#include <gguf.h>

#include <cmath>
#include <exception>
#include <memory>
#include <string_view>
#include <utility>

#include "engine/llama_guard.h"

namespace syncyte {

namespace {

constexpr std::string_view kA = ".lora_a";
constexpr std::string_view kB = ".lora_b";

std::unexpected<Error> unfit(std::string why) { return failure(ErrorCode::kModel, std::move(why)); }

class AdapterCheck {
  public:
    AdapterCheck(gguf_context* header, ggml_context* tensors, const AdapterBase& base)
        : header_(header), tensors_(tensors), base_(base) {}

    Result<void> run() {
        if (Result<void> good = kind(); !good) return good;
        if (Result<void> good = numbers(); !good) return good;
        for (ggml_tensor* one = ggml_get_first_tensor(tensors_); one != nullptr;
             one = ggml_get_next_tensor(tensors_, one)) {
            if (Result<void> good = tensor(*one); !good) return good;
        }
        return {};
    }

  private:
    // Empty where there is none, or something else than a text.
    [[nodiscard]] std::string text(const char* key) const {
        const std::int64_t id = gguf_find_key(header_, key);
        if (id < 0 || gguf_get_kv_type(header_, id) != GGUF_TYPE_STRING) return {};
        return gguf_get_val_str(header_, id);
    }

    [[nodiscard]] Result<void> kind() const {
        const std::string general = text("general.type");
        if (general != "adapter") {
            return unfit(general.empty() ? "not a LoRA adapter: it has no general.type \"adapter\""
                                         : "not a LoRA adapter but of the type \"" + general + "\"");
        }
        if (const std::string type = text("adapter.type"); type != "lora") {
            return unfit("an adapter of the type \"" + type + R"("; "lora" is what can be used)");
        }
        if (const std::string of = text("general.architecture"); of != base_.architecture) {
            return unfit("an adapter for the architecture \"" + of + "\"; the model's is \"" +
                         base_.architecture + "\"");
        }
        return {};
    }

    [[nodiscard]] Result<void> numbers() const {
        const std::int64_t alpha = gguf_find_key(header_, "adapter.lora.alpha");
        if (alpha >= 0 && (gguf_get_kv_type(header_, alpha) != GGUF_TYPE_FLOAT32 ||
                           !std::isfinite(gguf_get_val_f32(header_, alpha)))) {
            return unfit("its adapter.lora.alpha is not a number");
        }
        if (gguf_find_key(header_, "adapter.alora.invocation_tokens") >= 0) {
            return unfit(
                "an activated LoRA (aLoRA), which begins to count in the middle of a prompt; "
                "such adapters are not supported");
        }
        return {};
    }

    [[nodiscard]] Result<void> tensor(const ggml_tensor& one) const {
        const std::string name = one.name;
        const auto quoted = [&name](const std::string& what) {
            return unfit("its tensor '" + name + "' " + what);
        };
        const bool is_a = name.ends_with(kA);
        if (!is_a && !name.ends_with(kB)) return quoted("is no part of a LoRA: neither .lora_a nor .lora_b");
        const std::string base = name.substr(0, name.size() - kA.size());
        const ggml_tensor* other = ggml_get_tensor(tensors_, (base + std::string(is_a ? kB : kA)).c_str());
        if (other == nullptr) return quoted("has no partner" + std::string(is_a ? kB : kA));
        const bool plain =
            one.type == GGML_TYPE_F32 || one.type == GGML_TYPE_F16 || one.type == GGML_TYPE_BF16;
        if (!plain && !ggml_is_quantized(one.type)) return quoted("is of a type that holds no weights");
        const std::int64_t depth = name.contains("_exps.") ? base_.experts : 1;
        if (one.ne[2] != depth || one.ne[3] != 1) {
            return quoted("has " + std::to_string(one.ne[2] * one.ne[3]) + " matrices; the model needs " +
                          std::to_string(depth));
        }
        // Of token embeddings, both are stored the other way round.
        const bool flipped = base == "token_embd.weight";
        const ggml_tensor& a = is_a ? one : *other;
        const ggml_tensor& b = is_a ? *other : one;
        const std::int64_t rank = flipped ? a.ne[0] : a.ne[1];
        if (rank != b.ne[0]) {
            return quoted("and its partner do not have the same rank: " + std::to_string(rank) + " and " +
                          std::to_string(b.ne[0]));
        }
        return {};
    }

    gguf_context* header_;
    ggml_context* tensors_;
    const AdapterBase& base_;
};

}  // namespace

Result<void> check_adapter(const std::string& path, const AdapterBase& base) {
    const LlamaGuard guard;
    try {
        ggml_context* tensors = nullptr;
        const gguf_init_params params{.no_alloc = true, .ctx = &tensors};
        const std::unique_ptr<gguf_context, decltype(&gguf_free)> header(
            gguf_init_from_file(path.c_str(), params), &gguf_free);
        if (!header) return unfit("not a sound GGUF file: " + LlamaGuard::messages());
        const std::unique_ptr<ggml_context, decltype(&ggml_free)> owned(tensors, &ggml_free);
        return AdapterCheck(header.get(), tensors, base).run();
    } catch (const std::exception& caught) {
        return unfit(std::string("not a LoRA adapter: ") + caught.what());
    }
}

}  // namespace syncyte
