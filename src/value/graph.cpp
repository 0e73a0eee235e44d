#include "value/graph.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <new>

namespace syncyte {

namespace {

constexpr std::size_t padded(std::size_t size) { return (size + 7) & ~std::size_t{7}; }

// Large graphs are read all over: huge pages, where the kernel gives them, spare most of the address
// translation, and most page faults while building. A wish; nothing is lost without.
void ask_for_huge_pages(std::byte* data, std::size_t size) {
    constexpr std::size_t kFrom = std::size_t{4} << 20;
    constexpr std::size_t kPage = 4096;
    if (size < kFrom) return;
    const std::size_t before = (kPage - reinterpret_cast<std::uintptr_t>(data) % kPage) % kPage;
    madvise(data + before, (size - before) / kPage * kPage, MADV_HUGEPAGE);
}

}  // namespace

Graph::~Graph() { std::free(data_); }

// At most two thirds full.
std::size_t table_size(std::size_t count) { return std::bit_ceil(count + count / 2 + 1); }

GraphBuilder::~GraphBuilder() { std::free(data_); }

std::size_t GraphBuilder::allocate(std::size_t size) {
    const std::size_t place = size_;
    size_ += padded(size);
    if (size_ > room_) {
        const std::size_t room = std::max<std::size_t>(size_ + size_ / 2, 256);
        auto* data = static_cast<std::byte*>(std::realloc(data_, room));
        if (data == nullptr) {
            size_ = place;
            throw std::bad_alloc();
        }
        data_ = data;
        room_ = room;
        ask_for_huge_pages(data_, room_);
    }
    return place;
}

std::size_t GraphBuilder::node(NodeKind kind, std::size_t count, std::size_t payload) {
    const std::size_t place = allocate(sizeof(NodeHeader) + payload);
    *at<NodeHeader>(place) = {.kind = kind, .width = 0, .flags = 0, .type = 0, .count = count};
    return place;
}

Slot GraphBuilder::real(double value) {
    const std::size_t place = allocate(sizeof value);
    *at<double>(place) = value;
    return Slot::real(place);
}

Slot GraphBuilder::text(std::uint8_t width, const void* characters, std::size_t length) {
    if (width == 0 && length <= Slot::kShortest) {
        return Slot::short_text(static_cast<const char*>(characters), length);
    }
    const std::size_t size = length * std::max<std::size_t>(width, 1);
    const std::size_t place = node(NodeKind::kText, length, size);
    at<NodeHeader>(place)->width = width;
    std::memcpy(at<std::byte>(place + sizeof(NodeHeader)), characters, size);
    return Slot::node(place);
}

Slot GraphBuilder::bytes(NodeKind kind, const void* data, std::size_t size) {
    const std::size_t place = node(kind, size, size);
    if (size > 0) std::memcpy(at<std::byte>(place + sizeof(NodeHeader)), data, size);
    return Slot::node(place);
}

Slot GraphBuilder::complex(double real, double imaginary) {
    const std::size_t place = node(NodeKind::kComplex, 2, 2 * sizeof real);
    at<double>(place + sizeof(NodeHeader))[0] = real;
    at<double>(place + sizeof(NodeHeader))[1] = imaginary;
    return Slot::node(place);
}

Slot GraphBuilder::handle(Ref<Handle> handle) {
    handles_.push_back(std::move(handle));
    return Slot::node(node(NodeKind::kHandle, handles_.size() - 1, 0));
}

Slot GraphBuilder::slots(NodeKind kind, std::size_t count, Slot record_type) {
    const std::size_t extra = kind == NodeKind::kRecordType ? 2 : 0;
    const std::size_t place = node(kind, count, (count + extra) * sizeof(Slot));
    if (kind == NodeKind::kRecord || kind == NodeKind::kNamedTuple) {
        check(record_type.place() / 8 <= UINT32_MAX, "types of records lie in the first 32 GB of a graph");
        at<NodeHeader>(place)->type = static_cast<std::uint32_t>(record_type.place() / 8);
    }
    std::fill_n(at<Slot>(place + sizeof(NodeHeader)), count + extra, Slot::none());
    return Slot::node(place);
}

Slot GraphBuilder::table(NodeKind kind, std::size_t count) {
    const std::size_t table = count == 0 ? 0 : table_size(count) * sizeof(std::uint32_t);
    return Slot::node(node(kind, count, count * sizeof(Entry) + table));
}

void GraphBuilder::finish_table(Slot node) {
    const std::size_t count = at<NodeHeader>(node.place())->count;
    if (count == 0) return;
    const auto* entries = at<Entry>(node.place() + sizeof(NodeHeader));
    auto* table = at<std::uint32_t>(node.place() + sizeof(NodeHeader) + count * sizeof(Entry));
    const std::size_t size = table_size(count);
    std::memset(table, 0, size * sizeof *table);
    for (std::size_t i = 0; i < count; ++i) {
        Probe probe(entries[i].hash, size - 1);
        while (table[probe.place()] != 0) probe.next();
        table[probe.place()] = static_cast<std::uint32_t>(i + 1);
    }
}

Ref<Graph> GraphBuilder::finish() {
    if (size_ < room_) {
        if (auto* data = static_cast<std::byte*>(std::realloc(data_, std::max<std::size_t>(size_, 1))))
            data_ = data;
    }
    Ref<Graph> graph =
        Ref<Graph>::adopt(new Graph(std::exchange(data_, nullptr), size_, std::move(handles_)));
    size_ = room_ = 0;
    return graph;
}

}  // namespace syncyte
