// How a context is set up: room, threads, and how its KV cache is kept.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace syncyte {

// What the numbers in the KV cache are: fewer bits, more room in the same memory, and some precision lost.
enum class CacheType : std::uint8_t { kF16, kF32, kQ8_0, kQ4_0 };

// Of the keys and of the values.
struct CacheTypes {
    CacheType keys = CacheType::kF16;
    CacheType values = CacheType::kF16;

    friend bool operator==(const CacheTypes&, const CacheTypes&) = default;
};

// "q8_0", or "q8_0,f16" for keys and values apart. Nothing for any other text.
std::optional<CacheTypes> cache_types_named(std::string_view text);
// The same way back.
std::string to_string(const CacheTypes& types);
// Quantised values are read by flash attention only.
bool need_flash_attention(const CacheTypes& types);

// kAuto: as libllama decides for the machine.
enum class FlashAttention : std::uint8_t { kAuto, kOff, kOn };

// kUnified: all sequences take cells of one cache, and may share them. kSeparate: each has a part of its own,
// of cells / max_sequences: attention then looks at no others' cells, and nothing can be shared.
enum class CacheLayout : std::uint8_t { kUnified, kSeparate };

// How the vectors of a text's tokens become one vector of the text. kNone: a context that gives logits.
// kRank: the scores of a model that was made to rank.
enum class Pooling : std::uint8_t { kNone, kMean, kCls, kLast, kRank };

// "mean", "cls", "last", "rank"; nothing for any other text.
std::optional<Pooling> pooling_named(std::string_view text);
const char* to_string(Pooling pooling);  // kNone: "none"

struct ContextOptions {
    std::int32_t cells = 0;  // KV room in tokens, of all sequences together
    std::int32_t max_sequences = 0;
    std::int32_t rows_per_step = 0;
    std::int32_t threads = 1;
    CacheTypes cache_types = {};
    FlashAttention flash_attention = FlashAttention::kAuto;
    CacheLayout layout = CacheLayout::kUnified;  // without a pooling only
    Pooling pooling = Pooling::kNone;
};

}  // namespace syncyte
