#include "engine/attention.h"

#include <algorithm>
#include <array>
#include <cstdlib>

#include "base/check.h"
#include "engine/attention_kernel.h"

namespace syncyte {

namespace {

// Units for each thread, so that none waits long for the last.
constexpr std::int64_t kUnitsPerThread = 4;
// Queries of a unit, at least, while there are units enough: converting a block costs as much as 16 queries.
constexpr std::int64_t kLeastQueries = 16;

constexpr std::size_t kCacheLine = 64;

std::int64_t parts(std::int64_t whole, std::int64_t part) { return (whole + part - 1) / part; }

}  // namespace

AttentionPlan::AttentionPlan(const Attention& attention, int threads) : attention_(attention) {
    const std::int64_t group = attention.heads / attention.key_heads;
    const std::int64_t lines = attention.streams * attention.key_heads;
    heads_ = parts(group, parts(group, kAttentionQueries));
    const std::int64_t wanted = threads > 1 ? threads * kUnitsPerThread : 1;
    const std::int64_t most = std::max<std::int64_t>(kAttentionQueries / heads_, 1);
    const std::int64_t least = std::max<std::int64_t>(kLeastQueries / heads_, 1);
    const std::int64_t tiles = parts(wanted, lines * parts(group, heads_));
    rows_ = std::clamp(parts(attention.rows, tiles), least, most);
    tiles_ = parts(attention.rows, rows_);
    rows_ = parts(attention.rows, tiles_);  // tiles alike
    // Few rows, and fewer key heads than threads.
    head_parts_ = parts(group, heads_);
    while (heads_ > 1 && lines * head_parts_ * tiles_ < threads) {
        heads_ = std::min(heads_ - 1, parts(group, head_parts_ + 1));
        head_parts_ = parts(group, heads_);
    }
    units_ = lines * head_parts_ * tiles_;
}

AttentionUnit AttentionPlan::unit(std::int64_t index) const {
    const std::int64_t tile = index % tiles_;
    index /= tiles_;
    const std::int64_t part = index % head_parts_;
    index /= head_parts_;
    const std::int64_t key_head = index % attention_.key_heads;
    const std::int64_t group = attention_.heads / attention_.key_heads;
    const std::int64_t first_row = tile * rows_;
    return {.stream = index / attention_.key_heads,
            .key_head = key_head,
            .first_head = key_head * group + part * heads_,
            .heads = std::min(heads_, group - part * heads_),
            .first_row = first_row,
            .rows = std::min(rows_, attention_.rows - first_row)};
}

void AttentionScratch::Free::operator()(float* memory) const noexcept { std::free(memory); }

float* AttentionScratch::floats(std::size_t count) {
    if (count > count_) {
        const std::size_t bytes = (count * sizeof(float) + kCacheLine - 1) / kCacheLine * kCacheLine;
        memory_.reset(static_cast<float*>(std::aligned_alloc(kCacheLine, bytes)));
        check(memory_ != nullptr, "memory for a block of attention");
        count_ = count;
    }
    return memory_.get();
}

std::span<const AttentionKernel> attention_kernels() {
#if defined(__x86_64__)
    static constexpr std::array<AttentionKernel, 2> kAll{
        {{.name = "AVX-512", .compute = attend_avx512}, {.name = "AVX2", .compute = attend_avx2}}};
    const bool fused = __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    if (fused && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")) return kAll;
    if (fused && __builtin_cpu_supports("avx2")) return std::span(kAll).subspan(1);
#endif
    return {};
}

void AttentionTeam::compute(const AttentionKernel& kernel, const Attention& attention, int threads) {
    thread_local AttentionScratch scratch;
    const AttentionPlan plan(attention, threads);
    for (std::int64_t unit = next_.fetch_add(1, std::memory_order_relaxed); unit < plan.units();
         unit = next_.fetch_add(1, std::memory_order_relaxed)) {
        kernel.compute(attention, plan.unit(unit), scratch);
    }
    if (finished_.fetch_add(1, std::memory_order_acq_rel) + 1 < threads) return;
    next_.store(0, std::memory_order_relaxed);
    finished_.store(0, std::memory_order_relaxed);
}

}  // namespace syncyte
