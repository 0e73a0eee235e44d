// A growing first-in, first-out buffer in one block of memory.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

namespace syncyte {

// Not thread-safe, but for size(). Moves of T must not throw. 24 bytes, so that a channel's hot state fits a
// cache line.
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
        while (!empty()) pop();
        deallocate(slots_);
    }

    // Any thread may ask; one that does not hold the others off gets a hint.
    [[nodiscard]] std::uint32_t size() const noexcept { return count_.load(std::memory_order_relaxed); }
    [[nodiscard]] bool empty() const noexcept { return size() == 0; }
    // Where an item goes that finds the ring empty; null before the first, and when the ring has grown.
    [[nodiscard]] const void* first_slot() const noexcept {
        return slot_count() == kFirst ? slots_ : nullptr;
    }
    [[nodiscard]] std::uint32_t slot_count() const noexcept { return slots_ == nullptr ? 0 : mask_ + 1; }

    void push(T&& item) {
        const std::uint32_t count = size();
        if (count == slot_count()) grow();
        std::construct_at(slots_ + ((head_ + count) & mask_), std::move(item));
        set_size(count + 1);
    }

    // The oldest. Precondition: not empty.
    T pop() noexcept {
        T* slot = slots_ + head_;
        T item = std::move(*slot);
        std::destroy_at(slot);
        const std::uint32_t left = size() - 1;
        head_ = left == 0 ? 0 : (head_ + 1) & mask_;
        set_size(left);
        return item;
    }

    void swap(Ring& other) noexcept {
        std::swap(slots_, other.slots_);
        std::swap(head_, other.head_);
        std::swap(mask_, other.mask_);
        const std::uint32_t count = size();
        set_size(other.size());
        other.set_size(count);
    }

  private:
    static constexpr std::uint32_t kFirst = 16;

    // Slots begin at cache lines, so that a message of one line costs one transfer between cores.
    static constexpr std::align_val_t kAlignment{64 > alignof(T) ? 64 : alignof(T)};

    static T* allocate(std::uint32_t slots) {
        return static_cast<T*>(::operator new(slots * sizeof(T), kAlignment));
    }
    static void deallocate(T* slots) noexcept {
        if (slots != nullptr) ::operator delete(static_cast<void*>(slots), kAlignment);
    }

    void set_size(std::uint32_t count) noexcept { count_.store(count, std::memory_order_relaxed); }

    void grow() {
        constexpr std::uint32_t kMost = 1U << 31;
        const std::uint32_t old = slot_count();
        if (old == kMost) throw std::bad_alloc();
        const std::uint32_t slots = old == 0 ? kFirst : old * 2;
        T* larger = allocate(slots);
        for (std::uint32_t i = 0; i < old; ++i) {
            T* slot = slots_ + ((head_ + i) & mask_);
            std::construct_at(larger + i, std::move(*slot));
            std::destroy_at(slot);
        }
        deallocate(slots_);
        slots_ = larger;
        head_ = 0;
        mask_ = slots - 1;
    }

    T* slots_ = nullptr;
    std::uint32_t head_ = 0;
    std::atomic<std::uint32_t> count_{0};
    std::uint32_t mask_ = 0;  // the number of slots, a power of two, less one
};

}  // namespace syncyte
