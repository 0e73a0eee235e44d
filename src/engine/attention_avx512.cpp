// Attention for processors with AVX-512 (F and BW); src/CMakeLists.txt has the compiler's flags.
#if defined(__x86_64__)

#include <immintrin.h>

#include "engine/attention_block.h"

namespace syncyte {

namespace {

struct Avx512 {
    using F = __m512;
    using I = int __attribute__((vector_size(64)));
    static constexpr std::int64_t kWidth = 16;
    static constexpr std::int64_t kQueries = 8;  // by two vectors of cells
    static constexpr std::int64_t kOutputs = 4;  // by four vectors of numbers

    static F from_half(const std::uint16_t* from) {
        return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    }

    static std::uint32_t equal(const std::uint16_t* numbers, std::uint16_t value) {
        return _mm512_cmpeq_epi16_mask(_mm512_loadu_si512(numbers),
                                       _mm512_set1_epi16(static_cast<std::int16_t>(value)));
    }
};

}  // namespace

void attend_avx512(const Attention& attention, const AttentionUnit& unit, AttentionScratch& scratch) {
    Block<Avx512>(attention, unit, scratch).compute();
}

}  // namespace syncyte

#endif
