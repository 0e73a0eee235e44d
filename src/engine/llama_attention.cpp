#include "engine/llama_attention.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <random>
#include <string_view>
#include <vector>

#include "engine/llama_guard.h"

namespace syncyte {

namespace {

struct FreeContext {
    void operator()(ggml_context* context) const noexcept { ggml_free(context); }
};
using ContextPointer = std::unique_ptr<ggml_context, FreeContext>;

ContextPointer small_context(std::size_t bytes) {
    return ContextPointer(ggml_init({.mem_size = bytes, .mem_buffer = nullptr, .no_alloc = false}));
}

constexpr std::size_t kParameters = std::size(ggml_tensor{}.op_params);
// Where the scale of a node that was turned is kept: behind what a custom operation needs.
constexpr std::size_t kScale = kParameters - 1;

AttentionStrides strides_of(const ggml_tensor& tensor, std::size_t item, std::size_t head) {
    return {.item = tensor.nb[item], .head = tensor.nb[head], .stream = tensor.nb[3]};
}

// Of a node of flash attention: queries, keys and values are [size, items, heads, streams], the mask
// [cells, rows, 1, streams], the output [size, heads, rows, streams].
Attention attention_of(const ggml_tensor& node, float scale) {
    const ggml_tensor& queries = *node.src[0];
    const ggml_tensor& keys = *node.src[1];
    const ggml_tensor& values = *node.src[2];
    const ggml_tensor& mask = *node.src[3];
    return {.size = queries.ne[0],
            .heads = queries.ne[2],
            .key_heads = keys.ne[2],
            .rows = queries.ne[1],
            .cells = keys.ne[1],
            .streams = queries.ne[3],
            .scale = scale,
            .queries = static_cast<const float*>(queries.data),
            .keys = static_cast<const std::uint16_t*>(keys.data),
            .values = static_cast<const std::uint16_t*>(values.data),
            .mask = static_cast<const std::uint16_t*>(mask.data),
            .output = static_cast<float*>(node.data),
            .query_strides = strides_of(queries, 1, 2),
            .key_strides = strides_of(keys, 1, 2),
            .value_strides = strides_of(values, 1, 2),
            .mask_strides = {.item = mask.nb[1], .head = 0, .stream = mask.ne[3] == 1 ? 0 : mask.nb[3]},
            .output_strides = strides_of(node, 2, 1)};
}

void compute(ggml_tensor* node, int thread, int threads, void* team) {
    static_cast<void>(thread);
    const Attention attention = attention_of(*node, std::bit_cast<float>(node->op_params[kScale]));
    static_cast<AttentionTeam*>(team)->compute(attention_kernels().front(), attention, threads);
}

bool in_memory(const ggml_tensor* tensor) {
    return tensor->data != nullptr &&
           (tensor->buffer == nullptr || ggml_backend_buffer_is_host(tensor->buffer));
}

// As ggml_flash_attn_ext() leaves them: scale, ALiBi's bias, soft cap.
bool known(const ggml_tensor& node) {
    const ggml_tensor* const queries = node.src[0];
    const ggml_tensor* const keys = node.src[1];
    const ggml_tensor* const values = node.src[2];
    const ggml_tensor* const mask = node.src[3];
    if (mask == nullptr || std::any_of(node.src + 4, std::end(node.src), [](auto* more) { return more; })) {
        return false;
    }
    if (node.op_params[1] != 0 || node.op_params[2] != 0) return false;
    const bool types = node.type == GGML_TYPE_F32 && queries->type == GGML_TYPE_F32 &&
                       keys->type == GGML_TYPE_F16 && values->type == GGML_TYPE_F16 &&
                       mask->type == GGML_TYPE_F16;
    const bool sizes = attention_takes(queries->ne[0]) && keys->ne[0] == queries->ne[0] &&
                       values->ne[0] == queries->ne[0] && keys->ne[2] == values->ne[2] &&
                       queries->ne[2] % keys->ne[2] == 0 && keys->ne[1] == values->ne[1] &&
                       mask->ne[0] == keys->ne[1] && mask->ne[1] >= queries->ne[1] && mask->ne[2] == 1;
    const bool streams = keys->ne[3] == queries->ne[3] && values->ne[3] == queries->ne[3] &&
                         (mask->ne[3] == 1 || mask->ne[3] == queries->ne[3]);
    const bool dense = queries->nb[0] == sizeof(float) && keys->nb[0] == sizeof(ggml_fp16_t) &&
                       values->nb[0] == sizeof(ggml_fp16_t) && mask->nb[0] == sizeof(ggml_fp16_t);
    return types && sizes && streams && dense && in_memory(&node) && in_memory(queries) && in_memory(keys) &&
           in_memory(values) && in_memory(mask);
}

// Becomes a custom operation that calls compute(): with the parameters that ggml gives one, which must leave
// the place of the scale alone.
bool turn(ggml_tensor& node, AttentionTeam& team) {
    const ContextPointer context = small_context(4 * ggml_tensor_overhead());
    if (context == nullptr) return false;
    const ggml_tensor* made = ggml_custom_4d(context.get(), GGML_TYPE_F32, 1, 1, 1, 1, nullptr, 0, &compute,
                                             GGML_N_TASKS_MAX, &team);
    if (made->op != GGML_OP_CUSTOM || made->op_params[kScale] != 0) return false;
    const std::int32_t scale = node.op_params[0];
    std::ranges::copy(made->op_params, node.op_params);
    node.op_params[kScale] = scale;
    node.op = GGML_OP_CUSTOM;
    return true;
}

// A small attention in a graph of its own.
class Trial {
  public:
    Trial() : context_(small_context(std::size_t{1} << 20)) {
        std::mt19937 random(1);
        std::normal_distribution<float> normal;
        ggml_tensor* queries = ggml_new_tensor_4d(context_.get(), GGML_TYPE_F32, kSize, kRows, kHeads, 1);
        ggml_tensor* keys = ggml_new_tensor_4d(context_.get(), GGML_TYPE_F16, kSize, kCells, kKeyHeads, 1);
        ggml_tensor* values = ggml_new_tensor_4d(context_.get(), GGML_TYPE_F16, kSize, kCells, kKeyHeads, 1);
        ggml_tensor* mask = ggml_new_tensor_4d(context_.get(), GGML_TYPE_F16, kCells, kRows, 1, 1);
        auto* numbers = static_cast<float*>(queries->data);
        std::generate_n(numbers, ggml_nelements(queries), [&] { return normal(random); });
        for (ggml_tensor* tensor : {keys, values}) {
            std::generate_n(static_cast<ggml_fp16_t*>(tensor->data), ggml_nelements(tensor),
                            [&] { return ggml_fp32_to_fp16(normal(random)); });
        }
        std::generate_n(static_cast<ggml_fp16_t*>(mask->data), ggml_nelements(mask),
                        [&] { return ggml_fp32_to_fp16(random() % 3 == 0 ? -INFINITY : 0.0F); });
        node_ = ggml_flash_attn_ext(context_.get(), queries, keys, values, mask, 0.25F, 0, 0);
        graph_ = ggml_new_graph(context_.get());
        ggml_build_forward_expand(graph_, node_);
    }

    [[nodiscard]] ggml_tensor& node() const { return *node_; }

    // Empty: it could not be computed.
    [[nodiscard]] std::vector<float> compute(ggml_backend_t backend) const {
        ggml_set_zero(node_);  // nothing is left of who computed it before
        if (ggml_backend_graph_compute(backend, graph_) != GGML_STATUS_SUCCESS) return {};
        const auto* numbers = static_cast<const float*>(node_->data);
        return {numbers, numbers + ggml_nelements(node_)};
    }

  private:
    static constexpr std::int64_t kSize = 32;
    static constexpr std::int64_t kRows = 5;
    static constexpr std::int64_t kHeads = 4;
    static constexpr std::int64_t kKeyHeads = 2;
    static constexpr std::int64_t kCells = 96;

    ContextPointer context_;
    ggml_tensor* node_ = nullptr;
    ggml_cgraph* graph_ = nullptr;
};

// On the calling thread alone: it is not the engine's, and threads of another team would make libgomp take
// the machine for crowded, and put those that wait to sleep.
bool use_one_thread(ggml_backend_t backend) {
    const ggml_backend_reg_t registry = ggml_backend_dev_backend_reg(ggml_backend_get_device(backend));
    const auto set = reinterpret_cast<ggml_backend_set_n_threads_t>(
        ggml_backend_reg_get_proc_address(registry, "ggml_backend_set_n_threads"));
    if (set != nullptr) set(backend, 1);
    return set != nullptr;
}

// Whether this attention, as ggml runs it, gives what ggml's own gives: otherwise the library is another than
// the one this was written for.
bool agrees() {
    struct FreeBackend {
        void operator()(ggml_backend_t backend) const noexcept { ggml_backend_free(backend); }
    };
    const LlamaGuard guard;
    try {
        const std::unique_ptr<ggml_backend, FreeBackend> backend(
            ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr));
        if (backend == nullptr || !use_one_thread(backend.get())) return false;
        const Trial trial;
        const std::vector<float> theirs = trial.compute(backend.get());
        AttentionTeam team;
        if (!known(trial.node()) || !turn(trial.node(), team)) return false;
        const std::vector<float> ours = trial.compute(backend.get());
        constexpr float kTolerance = 0.01F;  // ggml's sums are in half precision
        return !ours.empty() && std::ranges::equal(ours, theirs, [](float a, float b) {
            return std::abs(a - b) < kTolerance;
        });
    } catch (const std::exception&) {
        return false;
    }
}

bool wanted() {
    const char* set = std::getenv("SYNCYTE_ATTENTION");
    return set == nullptr || std::string_view(set) != "ggml";
}

}  // namespace

bool LlamaAttention::available() {
    static const bool found = [] {
        const bool processor = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_GPU) == nullptr &&
                               ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_IGPU) == nullptr;
        return wanted() && processor && !attention_kernels().empty() && agrees();
    }();
    return found;
}

bool LlamaAttention::evaluate(ggml_tensor* node, bool ask, void* self) {
    if (ask && node->op == GGML_OP_FLASH_ATTN_EXT) static_cast<LlamaAttention*>(self)->consider(*node);
    return !ask;
}

void LlamaAttention::consider(ggml_tensor& node) {
    (known(node) && turn(node, team_) ? taken_ : left_) = true;
}

}  // namespace syncyte
