// A frozen object graph: one block of memory that every interpreter reads in place.
//
// Everything is named by a Slot, 64 bits, whose low three bits tell what the rest is: a small integer, a
// short ASCII text, None/False/True, the place of a float, or the place of a node. Nodes lie in the block at
// multiples of 8 and begin with a NodeHeader; what follows, each kind's struct below says. Places are
// offsets, so the block may move while it is built.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/ref.h"
#include "value/handle.h"

namespace syncyte {

enum class NodeKind : std::uint8_t {
    kText,
    kBytes,
    kByteArray,
    kBigInt,
    kComplex,
    kTuple,
    kList,
    kDict,
    kSet,
    kFrozenSet,
    kRecord,      // an instance of a dataclass: its fields
    kNamedTuple,  // likewise
    kRecordType,
    kHandle,
};

struct NodeHeader {
    NodeKind kind;
    std::uint8_t width;   // kText: 0 ASCII, 1 Latin-1, 2, 4 bytes a character
    std::uint16_t flags;  // kNodeShared
    std::uint32_t type;   // kRecord, kNamedTuple: place of its kRecordType, in units of 8 bytes
    std::uint64_t count;  // characters, bytes, items, entries; kHandle: index
};

inline constexpr std::uint16_t kNodeShared = 1;  // reached from more than one place

class Slot {
  public:
    enum class Kind : std::uint8_t { kNode, kInteger, kConstant, kFloat, kShortText };

    constexpr Slot() = default;
    static constexpr Slot from_bits(std::uint64_t bits) { return Slot(bits); }
    static constexpr Slot node(std::size_t place) { return Slot(place); }
    static constexpr Slot real(std::size_t place) { return Slot(place | 3); }
    static constexpr bool fits_integer(std::int64_t value) {
        return value >= -(1LL << 60) && value < (1LL << 60);
    }
    static constexpr Slot integer(std::int64_t value) {
        return Slot(static_cast<std::uint64_t>(value) << 3 | 1);
    }
    static constexpr Slot none() { return Slot(2); }
    static constexpr Slot boolean(bool value) { return Slot(value ? 2U << 3 | 2 : 1U << 3 | 2); }

    static constexpr std::size_t kShortest = 7;
    // At most kShortest ASCII characters; equal texts make equal slots.
    static Slot short_text(const char* text, std::size_t length) {
        std::uint64_t bits = 0;
        std::memcpy(&bits, text, length);
        return Slot(bits << 8 | length << 3 | 4);
    }

    [[nodiscard]] Kind kind() const { return static_cast<Kind>(bits_ & 7); }
    [[nodiscard]] std::size_t place() const { return bits_ & ~std::uint64_t{7}; }
    [[nodiscard]] std::int64_t integer() const { return static_cast<std::int64_t>(bits_) >> 3; }
    [[nodiscard]] bool is_none() const { return bits_ == none().bits_; }
    [[nodiscard]] bool is_true() const { return bits_ == boolean(true).bits_; }
    [[nodiscard]] std::size_t short_length() const { return bits_ >> 3 & 7; }
    void short_characters(char* to) const {  // kShortest bytes
        const std::uint64_t text = bits_ >> 8;
        std::memcpy(to, &text, kShortest);
    }
    [[nodiscard]] std::uint64_t bits() const { return bits_; }
    friend constexpr bool operator==(Slot, Slot) = default;

  private:
    explicit constexpr Slot(std::uint64_t bits) : bits_(bits) {}
    std::uint64_t bits_ = 2;
};

// An entry of a dict or, without a value that counts, of a set. `hash` is the key's in this process.
struct Entry {
    std::int64_t hash;
    Slot key;
    Slot value;
};

// kRecordType: header (count: fields), then module and qualified name, then the fields' names: Slots.

// A finished graph. Immutable; any thread reads it, the last one frees it.
class Graph final : public RefCounted {
  public:
    [[nodiscard]] const NodeHeader& node(Slot slot) const { return *at<NodeHeader>(slot.place()); }
    [[nodiscard]] double real(Slot slot) const { return *at<double>(slot.place()); }
    [[nodiscard]] const Ref<Handle>& handle(std::size_t index) const { return handles_[index]; }
    [[nodiscard]] std::size_t size() const { return size_; }

    template <class T>
    [[nodiscard]] const T* at(std::size_t place) const {
        return reinterpret_cast<const T*>(data_ + place);
    }

  private:
    friend class GraphBuilder;
    Graph(std::byte* data, std::size_t size, std::vector<Ref<Handle>> handles)
        : data_(data), size_(size), handles_(std::move(handles)) {}
    ~Graph() override;

    std::byte* data_;
    std::size_t size_;
    std::vector<Ref<Handle>> handles_;
};

// What follows the header of a node, for reading.
inline const char* node_characters(const NodeHeader& node) {
    return reinterpret_cast<const char*>(&node + 1);
}
inline std::span<const Slot> node_slots(const NodeHeader& node) {
    return {reinterpret_cast<const Slot*>(&node + 1), node.count};
}
inline std::span<const Entry> node_entries(const NodeHeader& node) {
    return {reinterpret_cast<const Entry*>(&node + 1), node.count};
}

// Open addressing over the entries' order; the probe sequence visits every place of the table.
class Probe {
  public:
    Probe(std::int64_t hash, std::size_t mask)
        : rest_(static_cast<std::uint64_t>(hash)), place_(rest_ & mask), mask_(mask) {}
    [[nodiscard]] std::size_t place() const { return place_; }
    void next() {
        rest_ >>= 5;
        place_ = (place_ * 5 + rest_ + 1) & mask_;
    }

  private:
    std::uint64_t rest_;
    std::size_t place_;
    std::size_t mask_;
};

// Places in the table of a dict or set of `count` entries, a power of two.
[[nodiscard]] std::size_t table_size(std::size_t count);

// The entry of `node` (kDict, kSet, kFrozenSet) with this hash whose key `equal(Slot)` accepts; nullptr when
// there is none, or when equal() said stop by returning a negative number.
template <class Equal>
const Entry* find_entry(const NodeHeader& node, std::int64_t hash, Equal&& equal) {
    if (node.count == 0) return nullptr;
    const auto* entries = reinterpret_cast<const Entry*>(&node + 1);
    const auto* table = reinterpret_cast<const std::uint32_t*>(entries + node.count);
    for (Probe probe(hash, table_size(node.count) - 1);; probe.next()) {
        const std::uint32_t index = table[probe.place()];
        if (index == 0) return nullptr;
        const Entry& entry = entries[index - 1];
        if (entry.hash != hash) continue;
        const int same = equal(entry.key);
        if (same > 0) return &entry;
        if (same < 0) return nullptr;
    }
}

// Builds a Graph in memory that grows; one thread. Memory runs out: std::bad_alloc.
class GraphBuilder {
  public:
    GraphBuilder() = default;
    GraphBuilder(const GraphBuilder&) = delete;
    GraphBuilder& operator=(const GraphBuilder&) = delete;
    ~GraphBuilder();

    [[nodiscard]] Slot real(double value);
    [[nodiscard]] Slot text(std::uint8_t width, const void* characters, std::size_t length);
    // kBytes, kByteArray, kBigInt.
    [[nodiscard]] Slot bytes(NodeKind kind, const void* data, std::size_t size);
    [[nodiscard]] Slot complex(double real, double imaginary);
    [[nodiscard]] Slot handle(Ref<Handle> handle);

    // Of `count` items, all None until set_slot(). kTuple, kList, kRecord, kNamedTuple; kRecordType has two
    // more.
    [[nodiscard]] Slot slots(NodeKind kind, std::size_t count, Slot record_type = {});
    void set_slot(Slot node, std::size_t index, Slot item) {
        at<Slot>(node.place() + sizeof(NodeHeader))[index] = item;
    }

    // kDict, kSet, kFrozenSet. All `count` entries are set, then the table is built. At most kMaxEntries.
    static constexpr std::size_t kMaxEntries = 0xffff'fffe;
    [[nodiscard]] Slot table(NodeKind kind, std::size_t count);
    void set_entry(Slot node, std::size_t index, const Entry& entry) {
        at<Entry>(node.place() + sizeof(NodeHeader))[index] = entry;
    }
    void finish_table(Slot node);

    void mark_shared(Slot node) { at<NodeHeader>(node.place())->flags |= kNodeShared; }
    [[nodiscard]] std::size_t size() const { return size_; }

    // The builder is empty afterwards.
    [[nodiscard]] Ref<Graph> finish();

  private:
    template <class T>
    T* at(std::size_t place) {
        return reinterpret_cast<T*>(data_ + place);
    }
    std::size_t allocate(std::size_t size);
    std::size_t node(NodeKind kind, std::size_t count, std::size_t payload);

    std::byte* data_ = nullptr;
    std::size_t size_ = 0;
    std::size_t room_ = 0;
    std::vector<Ref<Handle>> handles_;
};

// A container in a graph, as it travels.
class Shared final : public Handle {
  public:
    Shared(Ref<const Graph> graph, Slot slot)
        : Handle(HandleKind::kShared), graph_(std::move(graph)), slot_(slot) {}

    [[nodiscard]] const Graph& graph() const { return *graph_; }
    [[nodiscard]] const Ref<const Graph>& owner() const { return graph_; }
    [[nodiscard]] Slot slot() const { return slot_; }
    [[nodiscard]] const NodeHeader& node() const { return graph_->node(slot_); }

  private:
    Ref<const Graph> graph_;
    Slot slot_;
};

}  // namespace syncyte
