// A message on its way between interpreters: flat bytes, and references to what is not copied.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "base/ref.h"
#include "value/handle.h"

namespace syncyte {

// Immutable once made (by a Writer), movable, 64 bytes. Small messages sit inside it; larger ones in one
// heap block, which copies made by duplicate() share. Any thread may read, move and destroy it, one at a
// time. A default-made or moved-from Value is None.
class Value {
  public:
    static constexpr std::size_t kInlineRoom = 48;

    // What a message refers to or carries besides its flat bytes.
    struct Attachments : RefCounted {
        std::vector<Ref<Handle>> handles;
        std::vector<std::byte> pickle;    // one pickle of all objects that only pickle can carry; or empty
        std::uint32_t pickled_count = 0;  // how many: the pickle is of the object, or of a list of them
    };

    // Heap storage; the bytes follow the header.
    struct Block {
        std::atomic<std::uint32_t> references{1};
        std::size_t size = 0;
        [[nodiscard]] std::byte* data() noexcept { return reinterpret_cast<std::byte*>(this + 1); }
    };

    Value() noexcept = default;
    Value(Value&& other) noexcept
        : storage_(other.storage_), size_(std::exchange(other.size_, 0)), attachments_(other.take()) {}
    Value& operator=(Value&& other) noexcept {
        if (this != &other) {
            clear();
            storage_ = other.storage_;
            size_ = std::exchange(other.size_, 0);
            attachments_ = other.take();
        }
        return *this;
    }
    ~Value() { clear(); }

    // The same message again, for one more receiver: O(1) for what lies in a block.
    [[nodiscard]] Value duplicate() const noexcept;

    [[nodiscard]] std::span<const std::byte> bytes() const noexcept {
        if (size_ == kInBlock) [[unlikely]]
            return {storage_.block->data(), storage_.block->size};
        return {storage_.room, size_};
    }
    [[nodiscard]] const Attachments* attachments() const noexcept { return attachments_; }
    [[nodiscard]] std::span<const Ref<Handle>> handles() const noexcept {
        if (attachments_ == nullptr) return {};
        return attachments_->handles;
    }

  private:
    friend class Writer;

    static constexpr std::size_t kInBlock = ~std::size_t{0};

    union Storage {
        std::byte room[kInlineRoom];
        Block* block;
    };

    Attachments* take() noexcept { return std::exchange(attachments_, nullptr); }
    void clear() noexcept {
        if (size_ == kInBlock) release_block(storage_.block);
        if (attachments_ != nullptr) attachments_->release();
        size_ = 0;
        attachments_ = nullptr;
    }
    static void release_block(Block* block) noexcept;

    Storage storage_;  // set as far as size_ says
    std::size_t size_ = 0;
    Attachments* attachments_ = nullptr;
};

static_assert(sizeof(Value) == 64, "one cache line, so that a queue moves it in one go");

}  // namespace syncyte
