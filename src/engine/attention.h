// Attention on processors, for steps of many texts that share cells of the KV cache.
//
// What ggml computes for each row and head by itself, this computes for all queries that read the same keys:
// cells are taken in blocks, converted to single precision once, and multiplied with up to 64 queries, those
// of heads that share a key head and of all rows of a tile. A block that no row of the tile sees is
// passed over, and a row takes part in a block only if it sees a cell of it, so texts that have nothing in
// common cost each other next to nothing. The softmax is computed block by block (Milakov and Gimelshein,
// Online normalizer calculation for softmax, 2018; Dao et al., FlashAttention, 2022). All sums are in single
// precision.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace syncyte {

// Bytes from one to the next.
struct AttentionStrides {
    std::size_t item = 0;  // row of queries, masks and outputs; cell of keys and values
    std::size_t head = 0;
    std::size_t stream = 0;
};

// One attention over a batch. Streams are separate: each has its own rows and cells.
struct Attention {
    std::int64_t size = 0;   // numbers of a query, key or value of one head
    std::int64_t heads = 0;  // of queries: a multiple of key_heads; those that follow each other share one
    std::int64_t key_heads = 0;  // of keys and values
    std::int64_t rows = 0;
    std::int64_t cells = 0;
    std::int64_t streams = 1;
    float scale = 1;  // of query times key

    const float* queries = nullptr;
    const std::uint16_t* keys = nullptr;  // half precision
    const std::uint16_t* values = nullptr;
    // For each row and cell, in half precision: minus infinity where the row does not see the cell, otherwise
    // what is added to their product.
    const std::uint16_t* mask = nullptr;
    float* output = nullptr;  // of a row that sees no cell: zeros
    AttentionStrides query_strides = {};
    AttentionStrides key_strides = {};
    AttentionStrides value_strides = {};
    AttentionStrides mask_strides = {};
    AttentionStrides output_strides = {};
};

// A part of an attention that one thread computes: rows, and heads that share a key head.
struct AttentionUnit {
    std::int64_t stream;
    std::int64_t key_head;
    std::int64_t first_head;
    std::int64_t heads;
    std::int64_t first_row;
    std::int64_t rows;
};

// How an attention falls into units for so many threads.
class AttentionPlan {
  public:
    AttentionPlan(const Attention& attention, int threads);
    [[nodiscard]] std::int64_t units() const { return units_; }
    [[nodiscard]] AttentionUnit unit(std::int64_t index) const;

  private:
    const Attention& attention_;
    std::int64_t heads_ = 1;  // of a unit, at most
    std::int64_t rows_ = 1;   // of a unit, at most
    std::int64_t head_parts_ = 1;
    std::int64_t tiles_ = 1;
    std::int64_t units_ = 0;
};

// Memory that a kernel works in, of one thread.
class AttentionScratch {
  public:
    // At least so many floats, at the beginning of a cache line. Their contents do not stay.
    float* floats(std::size_t count);

  private:
    struct Free {
        void operator()(float* memory) const noexcept;
    };
    std::unique_ptr<float, Free> memory_;
    std::size_t count_ = 0;
};

struct AttentionKernel {
    const char* name;  // of the vector instructions that it needs
    void (*compute)(const Attention& attention, const AttentionUnit& unit, AttentionScratch& scratch);
};

// Those that this processor can run, the fastest first. None: ggml's own attention is what there is.
std::span<const AttentionKernel> attention_kernels();

// Whether kernels take heads of that size.
[[nodiscard]] constexpr bool attention_takes(std::int64_t size) {
    return size > 0 && size <= 256 && size % 16 == 0;
}

// What a team of threads shares while it computes one attention after the other. Each thread calls compute()
// once for every attention; between two of them the team must meet.
//
// Memory order: units are taken from a counter, whose value alone matters; who comes last in an attention
// sets the counters back, which the team's meeting publishes.
class AttentionTeam {
  public:
    void compute(const AttentionKernel& kernel, const Attention& attention, int threads);

  private:
    std::atomic<std::int64_t> next_{0};
    std::atomic<int> finished_{0};
};

}  // namespace syncyte
