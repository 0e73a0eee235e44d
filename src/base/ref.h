// Intrusive reference counting for objects that live in several interpreters at once.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace syncyte {

// Base of everything that interpreters share. Any thread may take or drop a reference; the object is
// deleted by whichever thread drops the last one, so a destructor must not need a particular thread. A chain
// of objects that each hold the last reference to the next may be of any length: destructors nest a few deep,
// then the rest waits for the outermost, which deletes it before its release() returns.
//
// Memory order: taking a reference needs none (the taker already holds one). Dropping releases, and the
// last dropper acquires, so that the destructor sees every write made under any reference.
class RefCounted {
  public:
    RefCounted() = default;
    RefCounted(const RefCounted&) = delete;
    RefCounted& operator=(const RefCounted&) = delete;

    void retain() const noexcept { references_.fetch_add(1, std::memory_order_relaxed); }

    // For a directory of weak references: takes a reference unless the last one is already gone. The
    // caller makes sure that the memory is still there, for instance by a lock the destructor takes too.
    [[nodiscard]] bool try_retain() const noexcept {
        std::uint32_t count = references_.load(std::memory_order_relaxed);
        while (count != 0) {
            if (references_.compare_exchange_weak(count, count + 1, std::memory_order_acquire,
                                                  std::memory_order_relaxed)) {
                return true;
            }
        }
        return false;
    }

    void release() const noexcept {
        if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy();
    }

    // For tests and statistics: stale as soon as it returns.
    [[nodiscard]] std::uint32_t use_count() const noexcept {
        return references_.load(std::memory_order_relaxed);
    }

  protected:
    virtual ~RefCounted() = default;

  private:
    void destroy() const noexcept;

    mutable std::atomic<std::uint32_t> references_{1};
};

// An owning pointer to a RefCounted. A new object starts with one reference: Ref<T>::adopt(new T) or
// make_ref<T>(...) take it over.
template <class T>
class Ref {
  public:
    Ref() noexcept = default;
    Ref(std::nullptr_t) noexcept {}  // NOLINT(google-explicit-constructor)

    static Ref adopt(T* object) noexcept {
        Ref ref;
        ref.object_ = object;
        return ref;
    }
    static Ref share(T* object) noexcept {
        if (object != nullptr) object->retain();
        return adopt(object);
    }

    Ref(const Ref& other) noexcept : object_(other.object_) {
        if (object_ != nullptr) object_->retain();
    }
    Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
    template <class U>
        requires std::is_convertible_v<U*, T*>
    Ref(Ref<U> other) noexcept : object_(other.leak()) {}  // NOLINT(google-explicit-constructor)
    Ref& operator=(Ref other) noexcept {
        std::swap(object_, other.object_);
        return *this;
    }
    ~Ref() {
        if (object_ != nullptr) object_->release();
    }

    [[nodiscard]] T* get() const noexcept { return object_; }
    T* operator->() const noexcept { return object_; }
    T& operator*() const noexcept { return *object_; }
    explicit operator bool() const noexcept { return object_ != nullptr; }
    friend bool operator==(const Ref& a, const Ref& b) noexcept { return a.object_ == b.object_; }

    // Gives the reference up to the caller, who must release() it.
    [[nodiscard]] T* leak() noexcept { return std::exchange(object_, nullptr); }

  private:
    T* object_ = nullptr;
};

template <class T, class... Args>
Ref<T> make_ref(Args&&... args) {
    return Ref<T>::adopt(new T(std::forward<Args>(args)...));
}

}  // namespace syncyte
