// Bytes that every interpreter sees in the same place, and views of them.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>

#include "base/error.h"
#include "base/ref.h"
#include "value/element_type.h"
#include "value/handle.h"

namespace syncyte {

// Owns memory; freed with the last reference. Any thread may hold one. The bytes themselves are not
// synchronised: who writes while others read sees to the order, or freezes first.
class Buffer final : public RefCounted {
  public:
    // Zeroed, aligned to kAlignment; by mmap with huge pages asked for when large. Null when there is not
    // that much memory.
    [[nodiscard]] static Ref<Buffer> allocate(std::size_t size);

    // The contents of a regular file, frozen, read page by page as touched. Not protected against others
    // who shorten the file: touching what is gone ends the process (SIGBUS). On failure errno.
    [[nodiscard]] static std::expected<Ref<Buffer>, int> open(const char* path);

    // A POSIX shared memory segment by its name, as multiprocessing.shared_memory gives it; this neither owns
    // nor unlinks it. `writable` false maps it read-only and frozen. On failure errno.
    [[nodiscard]] static std::expected<Ref<Buffer>, int> attach(const std::string& name, bool writable);

    static constexpr std::size_t kAlignment = 64;

    [[nodiscard]] std::byte* data() const noexcept { return data_; }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    // Whoever lets others write through the memory holds a writer's share meanwhile. begin_writing() is false
    // once frozen; freeze() is false while anybody writes, and for ever after its success nobody does.
    [[nodiscard]] bool begin_writing() noexcept;
    void end_writing() noexcept { writers_.fetch_sub(1, std::memory_order_release); }
    [[nodiscard]] bool freeze() noexcept;
    [[nodiscard]] bool frozen() const noexcept { return writers_.load(std::memory_order_acquire) == kFrozen; }

  private:
    enum class Origin : std::uint8_t { kHeap, kMapping };
    static constexpr std::int64_t kFrozen = -1;

    Buffer(std::byte* data, std::size_t size, Origin origin, std::int64_t writers) noexcept
        : data_(data), size_(size), origin_(origin), writers_(writers) {}
    ~Buffer() override;

    static std::expected<Ref<Buffer>, int> map(int file, bool writable);

    std::byte* const data_;
    const std::size_t size_;
    const Origin origin_;
    // Shares given out to writers; kFrozen when there will be no more. A compare-exchange guards the step
    // between the two; release on end_writing() and acquire in freeze() order the last write before it.
    std::atomic<std::int64_t> writers_;
};

// A C-contiguous array inside a Buffer. Immutable (what it shows is not), any thread.
class BufferView final : public Handle {
  public:
    static constexpr int kMaxDimensions = 8;

    struct Shape {
        int dimensions = 1;
        std::array<std::int64_t, kMaxDimensions> extents{};

        // Elements; meaningful for shapes that passed view().
        [[nodiscard]] std::int64_t count() const noexcept;
        friend bool operator==(const Shape& a, const Shape& b) noexcept;
    };

    // All of it, as bytes.
    explicit BufferView(const Ref<Buffer>& buffer);

    // The same bytes in another shape and type; at most one extent may be -1, "whatever fits".
    // kInvalidArgument when the sizes do not agree or the elements would not lie aligned.
    [[nodiscard]] Result<Ref<BufferView>> view(Shape shape, const ElementType& type) const;
    // Elements [from, to) along the first axis; 0 <= from <= to <= its extent.
    [[nodiscard]] Ref<BufferView> slice(std::int64_t from, std::int64_t to) const;
    // Element `index` of the first axis, an array of one dimension less.
    [[nodiscard]] Ref<BufferView> row(std::int64_t index) const;
    // The same, never writable through this view.
    [[nodiscard]] Ref<BufferView> read_only() const;

    [[nodiscard]] Buffer& buffer() const noexcept { return *buffer_; }
    [[nodiscard]] std::byte* data() const noexcept { return buffer_->data() + offset_; }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] const ElementType& type() const noexcept { return *type_; }
    [[nodiscard]] const Shape& shape() const noexcept { return shape_; }
    [[nodiscard]] const Shape& strides() const noexcept { return strides_; }  // bytes from one to the next
    [[nodiscard]] bool writable() const noexcept { return writable_ && !buffer_->frozen(); }
    [[nodiscard]] bool writable_view() const noexcept { return writable_; }

    // Same memory, shape and type.
    friend bool operator==(const BufferView& a, const BufferView& b) noexcept;

  private:
    BufferView(Ref<Buffer> buffer, std::size_t offset, const Shape& shape, const ElementType& type,
               bool writable);

    Ref<Buffer> buffer_;
    std::size_t offset_;
    std::size_t size_;
    Shape shape_;
    Shape strides_;
    const ElementType* type_;
    bool writable_;
};

}  // namespace syncyte
