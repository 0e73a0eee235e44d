// What Python's queues and channel ends stand for.
#pragma once

#include <Python.h>

#include <cstddef>
#include <utility>

#include "channel/channel.h"
#include "python/convert.h"
#include "value/handle.h"
#include "value/value.h"

namespace syncyte::python {

using Values = Channel<Value>;

// A Queue, or the line between the two ends of a channel.
class QueueCore final : public Handle {
  public:
    // `maxsize` as given; zero and less: unbounded.
    QueueCore(Py_ssize_t maxsize, Pickling pickling)
        : Handle(HandleKind::kQueue),
          values_(make_ref<Values>(maxsize > 0 ? static_cast<std::size_t>(maxsize) : 0)),
          maxsize_(maxsize),
          pickling_(pickling) {}

    [[nodiscard]] Values& values() const noexcept { return *values_; }
    [[nodiscard]] Py_ssize_t maxsize() const noexcept { return maxsize_; }
    [[nodiscard]] Pickling pickling() const noexcept { return pickling_; }

  private:
    const Ref<Values> values_;
    const Py_ssize_t maxsize_;
    const Pickling pickling_;
};

// One end of a channel. All Senders of it, in whichever interpreters, and those under way in messages, refer
// to one EndCore; so do all Receivers. When the last reference goes, that side is gone: without senders the
// channel closes once drained, without receivers at once.
class EndCore final : public Handle {
  public:
    // `line` null: an end that was closed.
    EndCore(HandleKind kind, Ref<QueueCore> line) : Handle(kind), line_(std::move(line)) {}

    [[nodiscard]] QueueCore* line() const noexcept { return line_.get(); }

  private:
    ~EndCore() override {
        if (line_) line_->values().close(kind() == HandleKind::kSender ? Close::kDrain : Close::kDiscard);
    }

    const Ref<QueueCore> line_;
};

}  // namespace syncyte::python
