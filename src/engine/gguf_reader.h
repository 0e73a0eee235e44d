// Reads a GGUF file front to back, never past its end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"

namespace syncyte {

// One thread. After the first failure every read gives zero, and failed() stays true: parse on, ask at the
// places that matter.
class GgufReader {
  public:
    // kNotFound, kIo: not there, not readable, or not a regular file.
    static Result<GgufReader> open(const std::string& path);
    GgufReader(GgufReader&& other) noexcept;
    GgufReader& operator=(GgufReader&&) = delete;
    ~GgufReader();

    template <class T>
    T number() {
        T value{};
        bytes(&value, sizeof value);
        return value;
    }
    // A length of 64 bits, then that many bytes; fails beyond `longest`.
    std::string string(std::uint64_t longest);
    void skip(std::uint64_t size);

    [[nodiscard]] std::uint64_t offset() const { return offset_; }
    [[nodiscard]] std::uint64_t size() const { return size_; }
    [[nodiscard]] std::uint64_t left() const { return size_ - offset_; }
    [[nodiscard]] bool failed() const { return failed_; }

  private:
    GgufReader(int descriptor, std::uint64_t size) : descriptor_(descriptor), size_(size) {}

    void bytes(void* into, std::size_t size);
    bool fill();

    int descriptor_;
    std::uint64_t size_;
    std::uint64_t offset_ = 0;  // of the next byte to give out
    std::vector<std::byte> buffer_;
    std::uint64_t buffer_start_ = 0;
    bool failed_ = false;
};

}  // namespace syncyte
