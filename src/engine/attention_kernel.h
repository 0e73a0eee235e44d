// The kernels of attention, one for each kind of vector instructions. Private to engine/attention*.cpp.
#pragma once

#include <cstdint>

#include "engine/attention.h"

namespace syncyte {

constexpr std::int64_t kAttentionQueries = 64;  // of a unit, at most

#if defined(__x86_64__)
void attend_avx512(const Attention& attention, const AttentionUnit& unit, AttentionScratch& scratch);
void attend_avx2(const Attention& attention, const AttentionUnit& unit, AttentionScratch& scratch);
#endif

}  // namespace syncyte
