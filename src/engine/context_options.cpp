#include "engine/context_options.h"

#include <array>
#include <utility>

namespace syncyte {

namespace {

constexpr std::array<std::pair<CacheType, std::string_view>, 4> kNames{{
    {CacheType::kF16, "f16"},
    {CacheType::kF32, "f32"},
    {CacheType::kQ8_0, "q8_0"},
    {CacheType::kQ4_0, "q4_0"},
}};

std::optional<CacheType> type_named(std::string_view text) {
    for (const auto& [type, name] : kNames) {
        if (name == text) return type;
    }
    return std::nullopt;
}

std::string_view name_of(CacheType wanted) {
    for (const auto& [type, name] : kNames) {
        if (type == wanted) return name;
    }
    return "?";
}

}  // namespace

std::optional<CacheTypes> cache_types_named(std::string_view text) {
    const std::size_t comma = text.find(',');
    const auto keys = type_named(text.substr(0, comma));
    const auto values = comma == std::string_view::npos ? keys : type_named(text.substr(comma + 1));
    if (!keys || !values) return std::nullopt;
    return CacheTypes{.keys = *keys, .values = *values};
}

std::string to_string(const CacheTypes& types) {
    std::string text(name_of(types.keys));
    if (types.values != types.keys) text.append(",").append(name_of(types.values));
    return text;
}

std::optional<Pooling> pooling_named(std::string_view text) {
    for (const Pooling pooling : {Pooling::kMean, Pooling::kCls, Pooling::kLast, Pooling::kRank}) {
        if (text == to_string(pooling)) return pooling;
    }
    return std::nullopt;
}

const char* to_string(Pooling pooling) {
    switch (pooling) {
        case Pooling::kMean: return "mean";
        case Pooling::kCls: return "cls";
        case Pooling::kLast: return "last";
        case Pooling::kRank: return "rank";
        case Pooling::kNone: break;
    }
    return "none";
}

bool need_flash_attention(const CacheTypes& types) {
    return types.values == CacheType::kQ8_0 || types.values == CacheType::kQ4_0;
}

}  // namespace syncyte
