#include "engine/gguf_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

namespace syncyte {

namespace {

constexpr std::size_t kBufferSize = 1U << 18;

std::unexpected<Error> os_failure(int error) {
    return failure(error == ENOENT || error == ENOTDIR ? ErrorCode::kNotFound : ErrorCode::kIo,
                   error == ENOENT ? "no such file" : std::generic_category().message(error));
}

}  // namespace

Result<GgufReader> GgufReader::open(const std::string& path) {
    if (path.find('\0') != std::string::npos) {
        return failure(ErrorCode::kInvalidArgument, "a path cannot hold a null character");
    }
    // O_NONBLOCK: opening a pipe must not wait for its writer.
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) return os_failure(errno);
    struct stat status{};
    const int stat_error = ::fstat(descriptor, &status) == 0 ? 0 : errno;
    GgufReader reader(descriptor, static_cast<std::uint64_t>(std::max<off_t>(status.st_size, 0)));
    if (stat_error != 0) return os_failure(stat_error);
    if (S_ISDIR(status.st_mode)) {
        return failure(ErrorCode::kModel, "is a directory; name the .gguf file in it");
    }
    if (!S_ISREG(status.st_mode)) return failure(ErrorCode::kModel, "is not a regular file");
    return reader;
}

GgufReader::GgufReader(GgufReader&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_),
      offset_(other.offset_),
      buffer_(std::move(other.buffer_)),
      buffer_start_(other.buffer_start_),
      failed_(other.failed_) {}

GgufReader::~GgufReader() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

bool GgufReader::fill() {
    buffer_.resize(kBufferSize);
    buffer_start_ = offset_;
    ssize_t count = 0;
    do {
        count = ::pread(descriptor_, buffer_.data(), buffer_.size(), static_cast<off_t>(offset_));
    } while (count < 0 && errno == EINTR);
    buffer_.resize(static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
    return count > 0;
}

void GgufReader::bytes(void* into, std::size_t size) {
    if (failed_ || size > left()) {
        failed_ = true;
        std::memset(into, 0, size);
        return;
    }
    auto* target = static_cast<std::byte*>(into);
    while (size > 0) {
        const bool buffered = offset_ >= buffer_start_ && offset_ < buffer_start_ + buffer_.size();
        if (!buffered && !fill()) {
            failed_ = true;
            std::memset(target, 0, size);
            return;
        }
        const auto start = static_cast<std::size_t>(offset_ - buffer_start_);
        const std::size_t count = std::min(size, buffer_.size() - start);
        std::memcpy(target, buffer_.data() + start, count);
        target += count;
        offset_ += count;
        size -= count;
    }
}

std::string GgufReader::string(std::uint64_t longest) {
    const auto size = number<std::uint64_t>();
    if (failed_ || size > longest || size > left()) {
        failed_ = true;
        return {};
    }
    std::string text(static_cast<std::size_t>(size), '\0');
    bytes(text.data(), text.size());
    return text;
}

void GgufReader::skip(std::uint64_t size) {
    if (failed_ || size > left()) {
        failed_ = true;
        return;
    }
    offset_ += size;
}

}  // namespace syncyte
