// Getting from whichever of several channels has something first.
#pragma once

#include <atomic>
#include <deque>
#include <span>
#include <utility>

#include "channel/channel.h"

namespace syncyte {

// One wait at several channels by the thread that made it. Use: begin(); unless it says true, wait for
// handoff(); then end() tells who was served. The channels must outlive it.
//
// Invariant: whichever channel sets winner_ first serves this wait; the others pass its waiters over. A
// channel that finished a waiter in line fires handoff_; one that served begin_get() at once does not.
template <class T>
class Selection {
  public:
    explicit Selection(std::span<Channel<T>* const> channels) : channels_(channels) {}
    Selection(const Selection&) = delete;
    Selection& operator=(const Selection&) = delete;
    ~Selection() { end(); }

    // Asks the channels in turn. True: one of them had something, or was closed.
    bool begin() {
        for (Channel<T>* channel : channels_) {
            Waiter<T>& waiter = waiters_.emplace_back(&handoff_, &winner_);
            if (!channel->begin_get(waiter)) continue;
            at_once_ = winner_.load(std::memory_order_acquire) == &waiter;
            return at_once_;
        }
        return false;
    }

    [[nodiscard]] const Handoff& handoff() const noexcept { return handoff_; }

    // Leaves all lines, and waits out a channel that is just serving us. The index of the channel that did,
    // and its waiter with outcome and item; nullptr when none did. May be called again.
    std::pair<std::size_t, Waiter<T>*> end() {
        for (std::size_t i = 0; i < waiters_.size(); ++i) channels_[i]->cancel_get(waiters_[i]);
        Waiter<T>* winner = winner_.load(std::memory_order_acquire);
        if (winner == nullptr) return {channels_.size(), nullptr};
        while (!at_once_ && !handoff_.fired()) Parker::of_this_thread().wait(handoff_, Deadline::never());
        std::size_t index = 0;
        while (&waiters_[index] != winner) ++index;
        return {index, winner};
    }

  private:
    std::span<Channel<T>* const> channels_;
    Handoff handoff_;
    std::atomic<Waiter<T>*> winner_{nullptr};
    std::deque<Waiter<T>> waiters_;  // one for each channel asked; they must not move
    bool at_once_ = false;
};

}  // namespace syncyte
