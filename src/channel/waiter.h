// Who waits at a channel, and the lists they wait in.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/parking.h"
#include "base/ref.h"
#include "channel/port.h"

namespace syncyte {

enum class Outcome : std::uint8_t { kWaiting, kDone, kClosed };

// One wait of one side at one channel. The owner keeps it in place until it is done or cancelled. While it
// waits, all but handoff_ is guarded by the channel's lock; once the handoff was fired (or, for a port, the
// token came out of it), it is the owner's again.
//
// Three kinds. A thread waits on the waiter's own handoff. A thread that selects waits on one handoff shared
// by waiters at several channels, of which the first to set `winner` counts. An event loop waits on a port,
// which is told the token.
template <class T>
struct alignas(64) Waiter {
    // First, so that what the waker writes and the waiter reads lies on one cache line for a small T.
    Handoff own_handoff;
    std::optional<T> item;  // a getter's: what it was handed; a putter's: what it brings
    Outcome outcome = Outcome::kWaiting;

    Waiter* next = nullptr;  // in a circular list; null when in none
    Waiter* previous = nullptr;
    std::uint64_t order = 0;  // of the item handed over: its place in the channel's sequence
    Handoff* handoff = &own_handoff;
    std::atomic<Waiter*>* winner = nullptr;
    Ref<Port> port;
    std::uint64_t token = 0;

    Waiter() = default;
    explicit Waiter(T&& brought) : item(std::move(brought)) {}
    Waiter(Handoff* shared_handoff, std::atomic<Waiter*>* shared_winner)
        : handoff(shared_handoff), winner(shared_winner) {}
    Waiter(Ref<Port> loop_port, std::uint64_t loop_token)
        : handoff(nullptr), port(std::move(loop_port)), token(loop_token) {}
    Waiter(const Waiter&) = delete;
    Waiter& operator=(const Waiter&) = delete;

    [[nodiscard]] bool queued() const noexcept { return next != nullptr; }

    // False for a selecting waiter that another channel has served.
    [[nodiscard]] bool claim() noexcept {
        if (winner == nullptr) return true;
        Waiter* none = nullptr;
        return winner->compare_exchange_strong(none, this, std::memory_order_acq_rel);
    }
};

// First come, first served. Guarded by the channel's lock.
template <class T>
class WaitList {
  public:
    [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }

    void push_back(Waiter<T>& waiter) noexcept {
        if (first_ == nullptr) {
            waiter.next = waiter.previous = first_ = &waiter;
            return;
        }
        waiter.next = first_;
        waiter.previous = first_->previous;
        waiter.previous->next = &waiter;
        first_->previous = &waiter;
    }

    void remove(Waiter<T>& waiter) noexcept {
        if (waiter.next == &waiter) {
            first_ = nullptr;
        } else {
            waiter.previous->next = waiter.next;
            waiter.next->previous = waiter.previous;
            if (first_ == &waiter) first_ = waiter.next;
        }
        waiter.next = waiter.previous = nullptr;
    }

    // The first that can still be served, taken out of the list; nullptr when there is none.
    Waiter<T>* claim_first() noexcept {
        while (first_ != nullptr) {
            Waiter<T>* waiter = first_;
            remove(*waiter);
            if (waiter->claim()) return waiter;
        }
        return nullptr;
    }

  private:
    Waiter<T>* first_ = nullptr;
};

// The waiters that one operation has finished, to be woken once it left the channel's lock.
template <class T>
class WakeList {
  public:
    WakeList() = default;
    WakeList(const WakeList&) = delete;
    WakeList& operator=(const WakeList&) = delete;

    // Under the channel's lock: a port's waiter may be destroyed as soon as that is left.
    void finish(Waiter<T>& waiter, Outcome outcome) {
        waiter.outcome = outcome;
        if (waiter.port) {
            if (waiter.port->push(waiter.token)) ports_.push_back(waiter.port);
            return;
        }
        waiter.previous = nullptr;
        *last_ = &waiter;
        last_ = &waiter.previous;
    }

    // Without the lock. A waiter may be gone once its handoff was fired.
    void wake() noexcept {
        while (first_ != nullptr) {
            Waiter<T>* waiter = first_;
            first_ = waiter->previous;
            waiter->handoff->fire();
        }
        for (const Ref<Port>& port : ports_) port->signal();
    }

  private:
    Waiter<T>* first_ = nullptr;  // linked through `previous`, since `next` says whether one is queued
    Waiter<T>** last_ = &first_;
    std::vector<Ref<Port>> ports_;
};

}  // namespace syncyte
