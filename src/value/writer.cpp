#include "value/writer.h"

#include <algorithm>
#include <cstdlib>
#include <new>

namespace syncyte {

namespace {

Value::Block* resized(Value::Block* block, std::size_t room) {
    void* memory = std::realloc(block, sizeof(Value::Block) + room);
    if (memory == nullptr) throw std::bad_alloc();
    return block == nullptr ? new (memory) Value::Block : static_cast<Value::Block*>(memory);
}

}  // namespace

Writer::~Writer() {
    std::free(block_);
    if (attachments_ != nullptr) attachments_->release();
}

void Writer::long_string(std::uint8_t width, const void* characters, std::size_t length) {
    const std::size_t size = length * std::max<std::size_t>(width, 1);
    put(Tag::kStr, 1 + sizeof(std::uint64_t) + size);
    store(width);
    store(static_cast<std::uint64_t>(length));
    append(characters, size);
}

void Writer::handle(Ref<Handle> handle) {
    auto& handles = attachments().handles;
    put(Tag::kHandle, sizeof(std::uint32_t));
    store(static_cast<std::uint32_t>(handles.size()));
    handles.push_back(std::move(handle));
}

void Writer::attach_pickle(std::span<const std::byte> pickle, std::uint32_t count) {
    attachments().pickle.assign(pickle.begin(), pickle.end());
    attachments().pickled_count = count;
}

void Writer::attach_handle(Ref<Handle> handle) { attachments().handles.push_back(std::move(handle)); }

Value Writer::finish() {
    Value value;
    const std::size_t size = offset();
    if (size <= Value::kInlineRoom) {
        std::memcpy(value.storage_.room, begin_, size);
        value.size_ = size;
    } else {
        if (block_ == nullptr) {
            block_ = resized(nullptr, size);
            std::memcpy(block_->data(), begin_, size);
        } else if (static_cast<std::size_t>(end_ - cursor_) > size / 4) {
            block_ = resized(block_, size);
        }
        block_->size = size;
        value.storage_.block = std::exchange(block_, nullptr);
        value.size_ = Value::kInBlock;
    }
    value.attachments_ = std::exchange(attachments_, nullptr);
    begin_ = cursor_ = end_ = nullptr;
    return value;
}

void Writer::grow(std::size_t wanted) {
    const std::size_t size = offset();
    const std::size_t room = std::max(size + wanted, 2 * size);
    const bool first = block_ == nullptr;
    block_ = resized(block_, room);
    if (first) std::memcpy(block_->data(), begin_, size);
    begin_ = block_->data();
    cursor_ = begin_ + size;
    end_ = begin_ + room;
}

Value::Attachments& Writer::attachments() {
    if (attachments_ == nullptr) attachments_ = new Value::Attachments;
    return *attachments_;
}

}  // namespace syncyte
