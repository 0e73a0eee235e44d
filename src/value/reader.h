// Reads a message item by item.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "value/tag.h"
#include "value/value.h"

namespace syncyte {

// One item as it lies in the message. Which members count, its tag says.
struct Item {
    Tag tag = Tag::kNone;
    bool repeated = false;   // a later kRepeat names this item by `offset`
    std::uint8_t width = 0;  // kStr, kIntList, kIntTuple
    std::size_t offset = 0;  // where the item begins
    std::size_t count =
        0;  // characters, bytes, items, pairs; index of kHandle and kPickled; offset of kRepeat
    std::int64_t integer = 0;         // kInt8, kInt64
    double real = 0;                  // kFloat, kComplex
    double imaginary = 0;             // kComplex
    const std::byte* data = nullptr;  // characters, bytes or numbers, in the message; not aligned
};

// Borrows the message. Never reads outside it, whatever the bytes are: garbage gives false, and announced
// counts are bounded by the bytes that are left, so a caller may allocate by them.
class Reader {
  public:
    explicit Reader(std::span<const std::byte> bytes) noexcept
        : begin_(bytes.data()), cursor_(begin_), end_(begin_ + bytes.size()) {}

    // The next item; false when the message ends early or is not one of ours. Items inside a container
    // follow it, one call each.
    [[nodiscard]] bool next(Item& item) noexcept;

    [[nodiscard]] bool at_end() const noexcept { return cursor_ == end_; }

  private:
    template <class T>
    [[nodiscard]] bool load(T& value) noexcept {
        if (left() < sizeof value) return false;
        std::memcpy(&value, cursor_, sizeof value);
        cursor_ += sizeof value;
        return true;
    }
    [[nodiscard]] bool load_count(std::size_t& count) noexcept {
        std::uint64_t wide = 0;
        if (!load(wide)) return false;
        count = wide;
        return true;
    }
    // `count` things of `size` bytes: there, and taken.
    [[nodiscard]] bool take(Item& item, std::size_t size) noexcept {
        if (item.count > left() / size) return false;
        item.data = cursor_;
        cursor_ += item.count * size;
        return true;
    }
    [[nodiscard]] bool next_string(Item& item) noexcept;
    [[nodiscard]] std::size_t left() const noexcept { return static_cast<std::size_t>(end_ - cursor_); }

    const std::byte* begin_;
    const std::byte* cursor_;
    const std::byte* end_;
};

// True when `value` is one whole, well-formed message: known tags, nesting within kMaxDepth, indices and
// repeats that resolve. What a Writer made always is.
[[nodiscard]] bool well_formed(const Value& value);
[[nodiscard]] bool well_formed(std::span<const std::byte> bytes, std::size_t handles, std::size_t pickled);

inline bool Reader::next(Item& item) noexcept {
    item.offset = static_cast<std::size_t>(cursor_ - begin_);
    std::uint8_t tag = 0;
    if (!load(tag)) return false;
    item.repeated = (tag & kRepeated) != 0;
    item.tag = static_cast<Tag>(tag & ~kRepeated);
    switch (item.tag) {
        case Tag::kNone:
        case Tag::kFalse:
        case Tag::kTrue: return true;
        case Tag::kInt8: {
            std::int8_t narrow = 0;
            if (!load(narrow)) return false;
            item.integer = narrow;
            return true;
        }
        case Tag::kInt64: return load(item.integer);
        case Tag::kFloat: return load(item.real);
        case Tag::kComplex: return load(item.real) && load(item.imaginary);
        case Tag::kShortAscii: {
            std::uint8_t length = 0;
            if (!load(length)) return false;
            item.count = length;
            item.width = 0;
            return take(item, 1);
        }
        case Tag::kStr: return next_string(item);
        case Tag::kBigInt:
        case Tag::kBytes:
        case Tag::kByteArray: return load_count(item.count) && take(item, 1);
        case Tag::kTuple:
        case Tag::kList:
        case Tag::kSet:
        case Tag::kFrozenSet: return load_count(item.count) && item.count <= left();
        case Tag::kDict: return load_count(item.count) && item.count <= left() / 2;
        case Tag::kIntList:
        case Tag::kIntTuple:
            return load(item.width) && load_count(item.count) &&
                   (item.width == 1 || item.width == 2 || item.width == 4 || item.width == 8) &&
                   take(item, item.width);
        case Tag::kFloatList:
        case Tag::kFloatTuple: return load_count(item.count) && take(item, sizeof(double));
        case Tag::kHandle:
        case Tag::kPickled: {
            std::uint32_t index = 0;
            if (!load(index)) return false;
            item.count = index;
            return true;
        }
        case Tag::kRepeat: return load_count(item.count) && item.count < item.offset;
        case Tag::kCount: break;
    }
    return false;
}

}  // namespace syncyte
