// Objects met while one structure is walked, by address.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace syncyte::python {

// Costs nothing until used and no memory for the first few objects. The objects must stay alive while it is
// used.
class Memo {
  public:
    // The number stored with `object` when it was met first; nothing, and `number` stored, when this is the
    // first time.
    std::optional<std::size_t> find_or_add(const void* object, std::size_t number) {
        if (table_.empty()) {
            for (std::size_t i = 0; i < count_; ++i) {
                if (few_[i].object == object) return few_[i].number;
            }
            if (count_ < kFew) {
                few_[count_++] = {object, number};
                return std::nullopt;
            }
            grow(kFirstTable);
            for (const Entry& entry : few_) place(entry);
        }
        Entry& entry = slot(object);
        if (entry.object != nullptr) return entry.number;
        entry = {object, number};
        if (++count_ * 2 > table_.size()) grow(table_.size() * 4);
        return std::nullopt;
    }

  private:
    struct Entry {
        const void* object = nullptr;
        std::size_t number = 0;
    };
    static constexpr std::size_t kFew = 8;
    static constexpr std::size_t kFirstTable = 64;

    Entry& slot(const void* object) {
        // Objects lie 16 bytes apart; the multiply spreads what is left over the table.
        std::size_t i = (reinterpret_cast<std::uintptr_t>(object) >> 4) * 0x9e3779b97f4a7c15ULL >> 20;
        while (table_[i & (table_.size() - 1)].object != nullptr &&
               table_[i & (table_.size() - 1)].object != object) {
            ++i;
        }
        return table_[i & (table_.size() - 1)];
    }
    void place(const Entry& entry) { slot(entry.object) = entry; }
    void grow(std::size_t size) {
        std::vector<Entry> old(size);
        old.swap(table_);
        for (const Entry& entry : old) {
            if (entry.object != nullptr) place(entry);
        }
    }

    Entry few_[kFew];
    std::size_t count_ = 0;
    std::vector<Entry> table_;
};

}  // namespace syncyte::python
