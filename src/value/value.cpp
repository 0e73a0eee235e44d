#include "value/value.h"

#include <cstdlib>

namespace syncyte {

Value Value::duplicate() const noexcept {
    Value copy;
    copy.storage_ = storage_;
    copy.size_ = size_;
    copy.attachments_ = attachments_;
    if (size_ == kInBlock) storage_.block->references.fetch_add(1, std::memory_order_relaxed);
    if (attachments_ != nullptr) attachments_->retain();
    return copy;
}

void Value::release_block(Block* block) noexcept {
    // The sole owner needs no read-modify-write: nobody else can take a reference.
    if (block->references.load(std::memory_order_acquire) == 1 ||
        block->references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        std::free(block);
    }
}

}  // namespace syncyte
