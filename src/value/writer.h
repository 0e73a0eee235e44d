// Builds a Value item by item.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include "base/check.h"
#include "value/tag.h"
#include "value/value.h"

namespace syncyte {

// Lives on the stack of one thread. The caller writes exactly one item, containers with as many items as it
// announced. Memory runs out: std::bad_alloc.
class Writer {
  public:
    Writer() noexcept : begin_(room_), cursor_(room_), end_(room_ + sizeof room_) {}
    Writer(const Writer&) = delete;
    Writer& operator=(const Writer&) = delete;
    ~Writer();

    // Where the next item will begin: names it for mark_repeated() and repeat().
    [[nodiscard]] std::size_t offset() const noexcept { return static_cast<std::size_t>(cursor_ - begin_); }

    void none() { put(Tag::kNone, 0); }
    void boolean(bool value) { put(value ? Tag::kTrue : Tag::kFalse, 0); }
    void integer(std::int64_t value) {
        if (value >= INT8_MIN && value <= INT8_MAX) {
            put(Tag::kInt8, 1);
            store(static_cast<std::int8_t>(value));
        } else {
            put(Tag::kInt64, sizeof value);
            store(value);
        }
    }
    // Room for `size` bytes of two's complement, least byte first, for the caller to fill at once.
    [[nodiscard]] std::byte* big_integer(std::size_t size) { return sized(Tag::kBigInt, size); }
    void real(double value) {
        put(Tag::kFloat, sizeof value);
        store(value);
    }
    void complex(double real, double imaginary) {
        put(Tag::kComplex, 2 * sizeof real);
        store(real);
        store(imaginary);
    }
    // `width` 0 (ASCII), 1, 2 or 4; `length` characters.
    void string(std::uint8_t width, const void* characters, std::size_t length) {
        if (width == 0 && length <= UINT8_MAX) {
            put(Tag::kShortAscii, 1 + length);
            store(static_cast<std::uint8_t>(length));
            append(characters, length);
        } else {
            long_string(width, characters, length);
        }
    }
    void bytes(const void* data, std::size_t size) { std::memcpy(sized(Tag::kBytes, size), data, size); }
    void byte_array(const void* data, std::size_t size) {
        std::memcpy(sized(Tag::kByteArray, size), data, size);
    }
    // kTuple, kList, kSet, kFrozenSet, kDict; `count` items (pairs of a dict) follow.
    void container(Tag tag, std::size_t count) {
        put(tag, sizeof(std::uint64_t));
        store(static_cast<std::uint64_t>(count));
    }
    // Room for `count` numbers of `width` bytes, for the caller to fill at once; not aligned.
    [[nodiscard]] std::byte* integers(Tag tag, std::uint8_t width, std::size_t count) {
        put(tag, 1 + sizeof(std::uint64_t) + width * count);
        store(width);
        store(static_cast<std::uint64_t>(count));
        return skip(width * count);
    }
    [[nodiscard]] std::byte* reals(Tag tag, std::size_t count) {
        put(tag, sizeof(std::uint64_t) + sizeof(double) * count);
        store(static_cast<std::uint64_t>(count));
        return skip(sizeof(double) * count);
    }
    void handle(Ref<Handle> handle);
    // Stands for object number `index` of the pickle given to attach_pickle().
    void pickled(std::uint32_t index) {
        put(Tag::kPickled, sizeof index);
        store(index);
    }
    // The object whose item began at `offset`, once more.
    void repeat(std::size_t offset) {
        begin_[offset] |= std::byte{kRepeated};
        put(Tag::kRepeat, sizeof(std::uint64_t));
        store(static_cast<std::uint64_t>(offset));
    }

    // Not items: what the message carries along.
    void attach_pickle(std::span<const std::byte> pickle, std::uint32_t count);
    // A handle that the pickle mentions by number and that must live as long as the message.
    void attach_handle(Ref<Handle> handle);

    // The message; the Writer is empty afterwards and must not be used again.
    [[nodiscard]] Value finish();

  private:
    void put(Tag tag, std::size_t payload) {
        if (static_cast<std::size_t>(end_ - cursor_) <= payload) [[unlikely]]
            grow(payload + 1);
        *cursor_++ = static_cast<std::byte>(tag);
    }
    template <class T>
    void store(T value) noexcept {
        std::memcpy(cursor_, &value, sizeof value);
        cursor_ += sizeof value;
    }
    void append(const void* data, std::size_t size) noexcept {
        std::memcpy(cursor_, data, size);
        cursor_ += size;
    }
    std::byte* skip(std::size_t size) noexcept { return std::exchange(cursor_, cursor_ + size); }
    std::byte* sized(Tag tag, std::size_t size) {
        put(tag, sizeof(std::uint64_t) + size);
        store(static_cast<std::uint64_t>(size));
        return skip(size);
    }
    void long_string(std::uint8_t width, const void* characters, std::size_t length);
    void grow(std::size_t wanted);
    Value::Attachments& attachments();

    std::byte* begin_;
    std::byte* cursor_;
    std::byte* end_;
    Value::Block* block_ = nullptr;  // owned; null while everything fits in room_
    Value::Attachments* attachments_ = nullptr;
    std::byte room_[480];
};

}  // namespace syncyte
