#include "engine/gguf_check.h"

#include <ggml.h>

#include <array>
#include <bit>
#include <cstdint>
#include <limits>
#include <unordered_set>
#include <utility>
#include <vector>

#include "engine/gguf_reader.h"

namespace syncyte {

namespace {

static_assert(std::endian::native == std::endian::little, "GGUF files are read as they are");

// Far above any real file, and low enough that nothing allocated from them can hurt.
constexpr std::uint64_t kMostEntries = 1U << 16;
constexpr std::uint64_t kMostTensors = 1U << 20;
constexpr std::uint64_t kMostElements = 1U << 24;
constexpr std::uint64_t kLongestKey = 1U << 16;
constexpr std::uint64_t kLongestString = 1U << 26;
constexpr std::uint64_t kMostLayers = 512;  // libllama's own limit

enum ValueType : std::uint32_t { kString = 8, kArray = 9, kTypeCount = 13 };

// Bytes of one value, by its type number: u8 i8 u16 i16 u32 i32 f32 bool string array u64 i64 f64.
constexpr std::array<std::uint64_t, kTypeCount> kTypeSizes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

std::unexpected<Error> broken(std::string why) {
    return failure(ErrorCode::kModel, "not a sound GGUF file: " + std::move(why));
}

class HeaderCheck {
  public:
    explicit HeaderCheck(GgufReader reader) : in_(std::move(reader)) {}

    Result<void> run() {
        if (in_.size() == 0) return failure(ErrorCode::kModel, "the file is empty");
        if (Result<void> part = start(); !part) return part;
        for (std::uint64_t i = 0; i < entries_; ++i) {
            if (Result<void> part = entry(); !part) return part;
        }
        if (!keys_.contains("general.architecture")) return broken("it names no architecture");
        if (tensors_ == 0) {
            return failure(ErrorCode::kModel, "the file holds a vocabulary only, no weights");
        }
        for (std::uint64_t i = 0; i < tensors_; ++i) {
            if (Result<void> part = tensor(); !part) return part;
        }
        return data();
    }

  private:
    Result<void> start() {
        if (in_.number<std::uint32_t>() != 0x46554747U) {  // "GGUF"
            return failure(ErrorCode::kModel, "not a GGUF file: it does not start with \"GGUF\"");
        }
        const auto version = in_.number<std::uint32_t>();
        tensors_ = in_.number<std::uint64_t>();
        entries_ = in_.number<std::uint64_t>();
        if (in_.failed()) return truncated("its first fields");
        if (version != 2 && version != 3) {
            return failure(ErrorCode::kModel,
                           "GGUF version " + std::to_string(version) + " is not supported (2 and 3 are)");
        }
        if (entries_ > kMostEntries) return broken("it claims " + std::to_string(entries_) + " entries");
        if (tensors_ > kMostTensors) return broken("it claims " + std::to_string(tensors_) + " tensors");
        return {};
    }

    Result<void> entry() {
        const std::string key = in_.string(kLongestKey);
        const auto type = in_.number<std::uint32_t>();
        if (in_.failed()) return truncated("the metadata");
        if (type >= kTypeCount) return broken("'" + key + "' has the unknown type " + std::to_string(type));
        if (!keys_.insert(key).second) return broken("'" + key + "' is there twice");
        if (type == kArray) return array(key);
        if (type == kString) {
            in_.string(kLongestString);
        } else if (type == 4 && (key == "general.alignment" || key.ends_with(".block_count"))) {
            return number(key, in_.number<std::uint32_t>());
        } else {
            in_.skip(kTypeSizes[type]);
        }
        if (in_.failed()) return truncated("'" + key + "'");
        return {};
    }

    Result<void> number(const std::string& key, std::uint32_t value) {
        if (in_.failed()) return truncated("'" + key + "'");
        if (key == "general.alignment") {
            if (!std::has_single_bit(value)) {
                return broken("the alignment " + std::to_string(value) + " is not a power of two");
            }
            alignment_ = value;
        } else if (value == 0 || value > kMostLayers) {
            return broken("it claims " + std::to_string(value) + " layers");
        }
        return {};
    }

    Result<void> array(const std::string& key) {
        const auto type = in_.number<std::uint32_t>();
        const auto count = in_.number<std::uint64_t>();
        if (in_.failed()) return truncated("'" + key + "'");
        if (type >= kTypeCount || type == kArray) return broken("'" + key + "' is an array of no known type");
        if (count > kMostElements)
            return broken("'" + key + "' claims " + std::to_string(count) + " elements");
        if (type != kString) {
            in_.skip(count * kTypeSizes[type]);
        } else if (key == "tokenizer.ggml.tokens") {
            return tokens(count);
        } else {
            for (std::uint64_t i = 0; i < count && !in_.failed(); ++i) in_.string(kLongestString);
        }
        if (in_.failed()) return truncated("'" + key + "'");
        return {};
    }

    // libllama ends the process over a token that is there twice.
    Result<void> tokens(std::uint64_t count) {
        std::unordered_set<std::string> seen;
        seen.reserve(static_cast<std::size_t>(std::min(count, in_.left() / 8)));
        for (std::uint64_t i = 0; i < count; ++i) {
            std::string token = in_.string(kLongestKey);
            if (in_.failed()) return truncated("the vocabulary");
            const auto [where, fresh] = seen.insert(std::move(token));
            if (!fresh) return broken("token '" + *where + "' is in the vocabulary twice");
        }
        return {};
    }

    Result<void> tensor() {
        const std::string name = in_.string(kLongestKey);
        const auto dimensions = in_.number<std::uint32_t>();
        if (in_.failed()) return truncated("the tensor directory");
        if (dimensions > GGML_MAX_DIMS) return broken("tensor '" + name + "' has too many dimensions");
        if (!names_.insert(name).second) return broken("tensor '" + name + "' is there twice");
        std::uint64_t elements = 1;
        std::uint64_t row = 1;
        for (std::uint32_t i = 0; i < dimensions; ++i) {
            const auto length = in_.number<std::uint64_t>();
            if (i == 0) row = length;
            if (length != 0 && elements > (std::uint64_t{1} << 48) / length) {
                return broken("tensor '" + name + "' has an impossible shape");
            }
            elements *= length;
        }
        const auto type = in_.number<std::uint32_t>();
        const auto offset = in_.number<std::uint64_t>();
        if (in_.failed()) return truncated("the tensor directory");
        const auto kind = static_cast<ggml_type>(type);
        if (type >= GGML_TYPE_COUNT || ggml_blck_size(kind) == 0 || ggml_type_size(kind) == 0) {
            return broken("tensor '" + name + "' has the unknown type " + std::to_string(type));
        }
        const auto block = static_cast<std::uint64_t>(ggml_blck_size(kind));
        if (elements == 0 || row % block != 0) return broken("tensor '" + name + "' has an impossible shape");
        const std::uint64_t size = elements / block * ggml_type_size(kind);
        if (offset > std::numeric_limits<std::uint64_t>::max() / 2 || offset % alignment_ != 0) {
            return broken("tensor '" + name + "' has an impossible place");
        }
        data_end_ = std::max(data_end_, offset + size);
        return {};
    }

    Result<void> data() {
        const std::uint64_t start = (in_.offset() + alignment_ - 1) / alignment_ * alignment_;
        if (start + data_end_ > in_.size()) {
            return failure(ErrorCode::kModel, "the file is truncated: its tensors end at byte " +
                                                  std::to_string(start + data_end_) + ", the file at " +
                                                  std::to_string(in_.size()));
        }
        return {};
    }

    [[nodiscard]] std::unexpected<Error> truncated(const std::string& where) const {
        return failure(ErrorCode::kModel, "the file is truncated or damaged in " + where + ", near byte " +
                                              std::to_string(in_.offset()) + " of " +
                                              std::to_string(in_.size()));
    }

    GgufReader in_;
    std::uint64_t tensors_ = 0;
    std::uint64_t entries_ = 0;
    std::uint64_t alignment_ = 32;
    std::uint64_t data_end_ = 0;
    std::unordered_set<std::string> keys_;
    std::unordered_set<std::string> names_;
};

}  // namespace

Result<void> check_gguf(const std::string& path) {
    Result<GgufReader> reader = GgufReader::open(path);
    if (!reader) return std::unexpected(std::move(reader.error()));
    return HeaderCheck(std::move(*reader)).run();
}

}  // namespace syncyte
