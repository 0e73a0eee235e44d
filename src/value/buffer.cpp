#include "value/buffer.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "base/check.h"

namespace syncyte {

namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

// From here on the kernel zeroes pages as they are touched, cheaper than memset.
constexpr std::size_t kMapFrom = std::size_t{1} << 20;

// Begins at a huge page's boundary, or no huge page would fit its first two megabytes.
std::byte* map_aligned(std::size_t size) {
    const std::size_t wanted = size + kHugePage;
    void* memory =
        mmap(nullptr, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    auto* const begin = static_cast<std::byte*>(memory);
    const auto address = reinterpret_cast<std::uintptr_t>(begin);
    const std::size_t before = (kHugePage - address % kHugePage) % kHugePage;
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t used = (size + page - 1) / page * page;
    if (before > 0) munmap(begin, before);
    if (wanted > before + used) munmap(begin + before + used, wanted - before - used);
    madvise(begin + before, used, MADV_HUGEPAGE);  // a wish; nothing is lost without
    return begin + before;
}

// A mapping of no bytes does not exist; this stands for it.
alignas(Buffer::kAlignment) std::byte nothing[Buffer::kAlignment];

struct Descriptor {
    int number;
    ~Descriptor() {
        if (number >= 0) close(number);
    }
};

}  // namespace

Ref<Buffer> Buffer::allocate(std::size_t size) {
    if (size > static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max()) - 2 * kHugePage)
        return nullptr;
    if (size >= kMapFrom) {
        std::byte* data = map_aligned(size);
        return data == nullptr ? nullptr : Ref<Buffer>::adopt(new Buffer(data, size, Origin::kMapping, 0));
    }
    const std::size_t room = std::max(kAlignment, (size + kAlignment - 1) / kAlignment * kAlignment);
    void* data = std::aligned_alloc(kAlignment, room);
    if (data == nullptr) return nullptr;
    std::memset(data, 0, room);
    return Ref<Buffer>::adopt(new Buffer(static_cast<std::byte*>(data), size, Origin::kHeap, 0));
}

std::expected<Ref<Buffer>, int> Buffer::open(const char* path) {
    // Not to block for ever on a pipe that nobody writes.
    const Descriptor file{::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (file.number < 0) return std::unexpected(errno);
    return map(file.number, false);
}

std::expected<Ref<Buffer>, int> Buffer::attach(const std::string& name, bool writable) {
    const std::string full = name.starts_with('/') ? name : "/" + name;
    const Descriptor file{shm_open(full.c_str(), (writable ? O_RDWR : O_RDONLY) | O_NONBLOCK, 0)};
    if (file.number < 0) return std::unexpected(errno);
    return map(file.number, writable);
}

std::expected<Ref<Buffer>, int> Buffer::map(int file, bool writable) {
    struct stat status{};
    if (fstat(file, &status) != 0) return std::unexpected(errno);
    if (S_ISDIR(status.st_mode)) return std::unexpected(EISDIR);
    if (!S_ISREG(status.st_mode)) return std::unexpected(ENODEV);
    const auto size = static_cast<std::size_t>(status.st_size);
    const std::int64_t writers = writable ? 0 : kFrozen;
    // Files of /proc have no size, but contents.
    char first = 0;
    if (size == 0 && pread(file, &first, 1, 0) > 0) return std::unexpected(ENODEV);
    if (size == 0) return Ref<Buffer>::adopt(new Buffer(nothing, 0, Origin::kMapping, writers));
    void* memory = mmap(nullptr, size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) return std::unexpected(errno);
    return Ref<Buffer>::adopt(new Buffer(static_cast<std::byte*>(memory), size, Origin::kMapping, writers));
}

Buffer::~Buffer() {
    if (origin_ == Origin::kHeap) {
        std::free(data_);
    } else if (size_ > 0) {
        munmap(data_, size_);
    }
}

bool Buffer::begin_writing() noexcept {
    std::int64_t writers = writers_.load(std::memory_order_relaxed);
    while (writers != kFrozen) {
        if (writers_.compare_exchange_weak(writers, writers + 1, std::memory_order_acquire,
                                           std::memory_order_relaxed)) {
            return true;
        }
    }
    return false;
}

bool Buffer::freeze() noexcept {
    std::int64_t nobody = 0;
    return writers_.compare_exchange_strong(nobody, kFrozen, std::memory_order_acq_rel) || nobody == kFrozen;
}

std::int64_t BufferView::Shape::count() const noexcept {
    std::int64_t elements = 1;
    for (int i = 0; i < dimensions; ++i) elements *= extents[static_cast<std::size_t>(i)];
    return elements;
}

bool operator==(const BufferView::Shape& a, const BufferView::Shape& b) noexcept {
    return a.dimensions == b.dimensions &&
           std::equal(a.extents.begin(), a.extents.begin() + a.dimensions, b.extents.begin());
}

BufferView::BufferView(Ref<Buffer> buffer, std::size_t offset, const Shape& shape, const ElementType& type,
                       bool writable)
    : Handle(HandleKind::kBuffer),
      buffer_(std::move(buffer)),
      offset_(offset),
      size_(static_cast<std::size_t>(shape.count()) * type.size),
      shape_(shape),
      type_(&type),
      writable_(writable) {
    strides_.dimensions = shape.dimensions;
    std::int64_t stride = type.size;
    for (auto i = static_cast<std::size_t>(shape.dimensions); i-- > 0;) {
        strides_.extents[i] = stride;
        stride *= shape.extents[i];
    }
    check(offset_ + size_ <= buffer_->size(), "a view lies within its buffer");
}

BufferView::BufferView(const Ref<Buffer>& buffer)
    : BufferView(buffer, 0, Shape{1, {static_cast<std::int64_t>(buffer->size())}}, kElementTypes[0], true) {}

Result<Ref<BufferView>> BufferView::view(Shape shape, const ElementType& type) const {
    const auto bytes = static_cast<std::int64_t>(size_);
    std::int64_t known = type.size;
    std::int64_t* open = nullptr;
    for (int i = 0; i < shape.dimensions; ++i) {
        std::int64_t& extent = shape.extents[static_cast<std::size_t>(i)];
        if (extent == -1 && open == nullptr) {
            open = &extent;
        } else if (extent < 0) {
            return failure(ErrorCode::kInvalidArgument, "a shape holds sizes, and -1 at most once");
        } else if (__builtin_mul_overflow(known, extent, &known)) {
            return failure(ErrorCode::kInvalidArgument, "the shape is too large");
        }
    }
    if (open != nullptr) {
        if (known == 0 || bytes % known != 0) {
            return failure(ErrorCode::kInvalidArgument,
                           std::to_string(bytes) + " bytes do not divide into this shape of " + type.name);
        }
        *open = bytes / known;
        known = bytes;
    }
    if (known != bytes) {
        return failure(ErrorCode::kInvalidArgument, "the shape needs " + std::to_string(known) +
                                                        " bytes of " + type.name + ", this buffer has " +
                                                        std::to_string(bytes));
    }
    if (offset_ % type.size != 0) {
        return failure(ErrorCode::kInvalidArgument,
                       std::string(type.name) + " needs an offset that is a multiple of " +
                           std::to_string(type.size) + ", this view begins at " + std::to_string(offset_));
    }
    return Ref<BufferView>::adopt(new BufferView(buffer_, offset_, shape, type, writable_));
}

Ref<BufferView> BufferView::slice(std::int64_t from, std::int64_t to) const {
    Shape shape = shape_;
    shape.extents[0] = to - from;
    const auto skipped = static_cast<std::size_t>(from * strides_.extents[0]);
    return Ref<BufferView>::adopt(new BufferView(buffer_, offset_ + skipped, shape, *type_, writable_));
}

Ref<BufferView> BufferView::row(std::int64_t index) const {
    Shape shape;
    shape.dimensions = shape_.dimensions - 1;
    std::copy_n(shape_.extents.begin() + 1, shape.dimensions, shape.extents.begin());
    const auto skipped = static_cast<std::size_t>(index * strides_.extents[0]);
    return Ref<BufferView>::adopt(new BufferView(buffer_, offset_ + skipped, shape, *type_, writable_));
}

Ref<BufferView> BufferView::read_only() const {
    return Ref<BufferView>::adopt(new BufferView(buffer_, offset_, shape_, *type_, false));
}

bool operator==(const BufferView& a, const BufferView& b) noexcept {
    return a.buffer_ == b.buffer_ && a.offset_ == b.offset_ && a.type_ == b.type_ && a.shape_ == b.shape_;
}

}  // namespace syncyte
