// Attention for processors with AVX2, FMA and F16C; src/CMakeLists.txt has the compiler's flags.
#if defined(__x86_64__)

#include <immintrin.h>

#include "engine/attention_block.h"

namespace syncyte {

namespace {

struct Avx2 {
    using F = __m256;
    using I = int __attribute__((vector_size(32)));
    static constexpr std::int64_t kWidth = 8;
    static constexpr std::int64_t kQueries = 2;  // by four vectors of cells
    static constexpr std::int64_t kOutputs = 2;  // by four vectors of numbers

    static F from_half(const std::uint16_t* from) {
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    }

    static std::uint32_t equal(const std::uint16_t* numbers, std::uint16_t value) {
        const __m256i wanted = _mm256_set1_epi16(static_cast<std::int16_t>(value));
        const auto* vectors = reinterpret_cast<const __m256i*>(numbers);
        const __m256i first = _mm256_cmpeq_epi16(_mm256_loadu_si256(vectors), wanted);
        const __m256i second = _mm256_cmpeq_epi16(_mm256_loadu_si256(vectors + 1), wanted);
        // Packing works on halves of vectors: the quarters come out as 0, 2, 1, 3.
        const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packs_epi16(first, second), 0b11011000);
        return static_cast<std::uint32_t>(_mm256_movemask_epi8(bytes));
    }
};

}  // namespace

void attend_avx2(const Attention& attention, const AttentionUnit& unit, AttentionScratch& scratch) {
    Block<Avx2>(attention, unit, scratch).compute();
}

}  // namespace syncyte

#endif
