// A growing first-in, first-out buffer in one block of memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

namespace syncyte {

// Not thread-safe. Moves of T must not throw. 24 bytes, so that a channel's hot state fits a cache line.
template <class T>
class Ring {
  public:
    Ring() = default;
    Ring(Ring&& other) noexcept { swap(other); }
    Ring& operator=(Ring&& other) noexcept {
        Ring(std::move(other)).swap(*this);
        return *this;
    }
    ~Ring() {
        while (count_ > 0) pop();
        if (slots_ != nullptr) std::allocator<T>().deallocate(slots_, slot_count());
    }

    [[nodiscard]] std::uint32_t size() const noexcept { return count_; }
    [[nodiscard]] bool empty() const noexcept { return count_ == 0; }
    [[nodiscard]] std::uint32_t slot_count() const noexcept { return slots_ == nullptr ? 0 : mask_ + 1; }

    void push(T&& item) {
        if (count_ == slot_count()) grow();
        std::construct_at(slots_ + ((head_ + count_) & mask_), std::move(item));
        ++count_;
    }

    // The oldest. Precondition: not empty.
    T pop() noexcept {
        T* slot = slots_ + head_;
        T item = std::move(*slot);
        std::destroy_at(slot);
        head_ = (head_ + 1) & mask_;
        --count_;
        return item;
    }

    void swap(Ring& other) noexcept {
        std::swap(slots_, other.slots_);
        std::swap(head_, other.head_);
        std::swap(count_, other.count_);
        std::swap(mask_, other.mask_);
    }

  private:
    void grow() {
        constexpr std::uint32_t kFirst = 16;
        constexpr std::uint32_t kMost = 1U << 31;
        const std::uint32_t old = slot_count();
        if (old == kMost) throw std::bad_alloc();
        const std::uint32_t slots = old == 0 ? kFirst : old * 2;
        T* larger = std::allocator<T>().allocate(slots);
        for (std::uint32_t i = 0; i < count_; ++i) {
            T* slot = slots_ + ((head_ + i) & mask_);
            std::construct_at(larger + i, std::move(*slot));
            std::destroy_at(slot);
        }
        if (slots_ != nullptr) std::allocator<T>().deallocate(slots_, old);
        slots_ = larger;
        head_ = 0;
        mask_ = slots - 1;
    }

    T* slots_ = nullptr;
    std::uint32_t head_ = 0;
    std::uint32_t count_ = 0;
    std::uint32_t mask_ = 0;  // the number of slots, a power of two, less one
};

}  // namespace syncyte
