#include "value/reader.h"

#include <algorithm>
#include <vector>

namespace syncyte {

namespace {

// Walks one message. Offsets of items that may be repeated come in rising order, so a search by halves does.
class Walk {
  public:
    Walk(std::span<const std::byte> bytes, std::size_t handles, std::size_t pickled)
        : reader_(bytes), handles_(handles), pickled_(pickled) {}

    bool message() { return item(0) && reader_.at_end(); }

  private:
    bool item(int depth) {
        Item item;
        if (!reader_.next(item)) return false;
        if (item.repeated) {
            if (item.tag < Tag::kByteArray || item.tag == Tag::kRepeat) return false;
            repeated_.push_back(item.offset);
        }
        switch (item.tag) {
            case Tag::kTuple:
            case Tag::kList:
            case Tag::kSet:
            case Tag::kFrozenSet: return items(item.count, depth + 1);
            case Tag::kDict: return items(2 * item.count, depth + 1);
            case Tag::kHandle: return item.count < handles_;
            case Tag::kPickled: return item.count < pickled_;
            case Tag::kRepeat: return std::ranges::binary_search(repeated_, item.count);
            default: return true;
        }
    }

    bool items(std::size_t count, int depth) {
        if (depth > kMaxDepth) return false;
        for (std::size_t i = 0; i < count; ++i) {
            if (!item(depth)) return false;
        }
        return true;
    }

    Reader reader_;
    std::size_t handles_;
    std::size_t pickled_;
    std::vector<std::size_t> repeated_;
};

}  // namespace

bool Reader::next_string(Item& item) noexcept {
    if (!load(item.width) || !load_count(item.count)) return false;
    switch (item.width) {
        case 0:
        case 1: return take(item, 1);
        case 2:
        case 4: return take(item, item.width);
        default: return false;
    }
}

bool well_formed(std::span<const std::byte> bytes, std::size_t handles, std::size_t pickled) {
    if (bytes.empty()) return true;
    return Walk(bytes, handles, pickled).message();
}

bool well_formed(const Value& value) {
    const auto* attachments = value.attachments();
    return well_formed(value.bytes(), value.handles().size(),
                       attachments == nullptr ? 0 : attachments->pickled_count);
}

}  // namespace syncyte
