// A first-in, first-out channel between any threads of any interpreters, bounded or not.
//
// Two locks keep putters out of the getters' way: items are put into inbox_ under put_lock_; getters have
// get_lock_ and take from outbox_, which holds older items. Only who finds the outbox empty takes the
// put_lock_ too, and makes a long enough inbox the next outbox. A bounded channel has no outbox: there every
// getter may have to let a putter in.
//
// Invariants, true whenever both locks are free:
//   getters wait only while nothing is there to get;
//   putters wait only while the channel is full and open;
//   a finished waiter is in no list, and whoever finished it wakes it after leaving the lock.
// So an item goes straight to the getter that has waited longest, nobody can overtake a waiter, and each
// wake-up is of exactly one thread. Every item has a place in the sequence of items taken out; one that is
// given back returns to its place, so that order survives cancelled waits.
//
// Memory order: everything is guarded by locks. get_lock_ is taken before put_lock_. What belongs to getters
// (outbox_, returned_, taken_) changes under get_lock_, the rest under put_lock_, with these two exceptions:
// taken_ also counts what a putter hands to a waiting getter, and a putter of a bounded channel reads
// returned_. Both are safe: while a getter waits there is nothing to take, so nobody changes taken_ without
// having held put_lock_ in between; and returned_ of a bounded channel changes under both locks. What a
// finished waiter holds is published by its Handoff.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "base/cpu.h"
#include "base/error.h"
#include "base/lock.h"
#include "base/parking.h"
#include "base/ref.h"
#include "channel/ring.h"
#include "channel/waiter.h"

namespace syncyte {

enum class Close : std::uint8_t {
    kDrain,    // what is in the channel can still be got
    kDiscard,  // what is in the channel is dropped
};

// Any thread may call anything. Items are destroyed outside the lock, so their destructors may use channels.
// Errors carry no message: kClosed, kFull and kEmpty (try_...), kTimedOut, kInterrupted (a signal, or
// Parker::interrupt()).
template <class T>
class alignas(64) Channel final : public RefCounted {
  public:
    // `capacity` in items; 0: unbounded. A waiting put counts as outside.
    explicit Channel(std::size_t capacity = 0)
        : capacity_(capacity <= std::numeric_limits<std::uint32_t>::max()
                        ? static_cast<std::uint32_t>(capacity)
                        : 0) {}

    // `item` is moved from only on success.
    Result<void> try_put(T&& item);
    Result<void> put(T&& item, Deadline deadline);
    // Puts as many of `items`, in order, as there is room for: how many. Error: kClosed.
    Result<std::size_t> try_put_many(std::span<T> items);

    // `place`, where asked for, is the item's in the sequence of items, for give_back().
    Result<T> try_get(std::uint64_t* place = nullptr);
    Result<T> get(Deadline deadline);
    // Appends at most `most` items to `items`, and their places to `places`: how many.
    std::size_t try_get_many(std::vector<T>& items, std::size_t most,
                             std::vector<std::uint64_t>* places = nullptr);

    // Ends all putting: waiting putters fail with kClosed, getters once nothing is left. Closing again does
    // nothing, but for kDiscard after kDrain.
    void close(Close how = Close::kDrain);

    [[nodiscard]] bool closed() const noexcept { return closed_.load(std::memory_order_relaxed); }
    [[nodiscard]] std::size_t size() const;
    [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }

    // Accounting as in queue.Queue: each item put counts as unfinished until task_done(). kInvalidArgument
    // when called more often than items were put.
    Result<void> task_done();
    [[nodiscard]] std::uint64_t unfinished() const;

    // Looks for something to get for about a microsecond, two in a stream of items, without taking part in
    // anything: the other side of a hot exchange answers within that time, and taking what it stored is
    // cheaper than having it handed over. Those who wait in line are served first. Does nothing when waits do
    // not spin.
    void await_briefly() const noexcept;

    // Waits in two steps, for callers that let go of something (an interpreter) in between, that wait at
    // several channels, or that do not block at all. begin_...: true when the waiter has its outcome already
    // (or, one that selects, was served by another channel); false when it now waits in line, and its owner
    // must wait for the handoff or the port, or cancel.
    bool begin_get(Waiter<T>& waiter);
    bool begin_put(Waiter<T>& waiter);   // waiter.item: what to put; still there unless the outcome is kDone
    bool begin_join(Waiter<T>& waiter);  // done when nothing is unfinished

    // Whether a waiter that a port is to tell of is still in line.
    [[nodiscard]] bool waits(const Waiter<T>& waiter) const;

    // Ends a wait. True: it ends without outcome. False: it has been finished; a thread must then wait for
    // its handoff, which is about to be fired.
    bool cancel_get(Waiter<T>& waiter) { return cancel(getters_, waiter); }
    bool cancel_put(Waiter<T>& waiter) { return cancel(putters_, waiter); }
    bool cancel_join(Waiter<T>& waiter) { return cancel(joiners_, waiter); }

    // Returns the item of a finished getter to its place in the channel: it is the next to be got, after
    // those given back that came before it. Nothing when there is no item, or when it was discarded by
    // close().
    void give_back(Waiter<T>& waiter);
    // The same with an item that was got, and its place. Where it was to be discarded it stays the caller's.
    void give_back(T&& item, std::uint64_t place);

  private:
    struct Returned {
        std::uint64_t order;
        T item;
    };

    ~Channel() override = default;

    using Guard = std::unique_lock<Lock>;

    // Under both locks; of a bounded channel, under put_lock_.
    [[nodiscard]] std::size_t size_locked() const noexcept {
        return outbox_.size() + inbox_.size() + returned_.size();
    }
    [[nodiscard]] bool full() const noexcept { return capacity_ != 0 && size_locked() >= capacity_; }
    // Under get_lock_: whether the next item can be taken without put_lock_.
    [[nodiscard]] bool ready() const noexcept {
        return capacity_ == 0 && !outbox_.empty() && returned_.empty();
    }
    void refill();
    // Asks for the cache line that the next item is likely to lie on, while the one with the lock is still on
    // its way from another core. A hint: the address may be stale, and is never followed.
    void fetch_ahead() const noexcept {
        if (const void* slot = first_slot_.load(std::memory_order_relaxed)) fetch_to_write(slot);
    }
    void store(T&& item);
    void accept(T&& item, WakeList<T>& wakes);
    T take(std::uint64_t& order, WakeList<T>& wakes, Ring<T>& emptied);
    void admit_putters(WakeList<T>& wakes);
    void finish_joiners(WakeList<T>& wakes);
    bool cancel(WaitList<T>& list, Waiter<T>& waiter);
    Wake wait(WaitList<T>& list, Waiter<T>& waiter, Deadline deadline);

    // The first cache line, shared with the reference count, holds all that an uncontended put writes; the
    // second is the getters'; the rest is mostly read.
    mutable Lock put_lock_;
    WaitList<T> getters_;
    Ring<T> inbox_;
    std::uint64_t unfinished_ = 0;
    alignas(64) mutable Lock get_lock_;
    Ring<T> outbox_;
    std::atomic<bool> streaming_{false};  // the last look into the inbox found many items; a hint
    std::uint64_t taken_ = 0;  // the place in the sequence of the next item to be taken for the first time
    std::vector<Returned> returned_;  // by falling order: the next to go is the last
    alignas(64) WaitList<T> putters_;
    const std::uint32_t capacity_;
    std::atomic<bool> closed_{false};               // written under both locks
    std::atomic<const void*> first_slot_{nullptr};  // inbox_.first_slot(), for fetch_ahead()
    bool discarded_ = false;
    WaitList<T> joiners_;
};

template <class T>
void Channel<T>::store(T&& item) {
    const std::uint32_t slots = inbox_.slot_count();
    inbox_.push(std::move(item));
    if (inbox_.slot_count() != slots) [[unlikely]]
        first_slot_.store(inbox_.first_slot(), std::memory_order_relaxed);
}

// Under both locks. A few items are not worth it: they are taken from the inbox itself.
template <class T>
void Channel<T>::refill() {
    constexpr std::uint32_t kWorthIt = 4;
    if (capacity_ != 0 || !outbox_.empty()) return;
    const bool many = inbox_.size() >= kWorthIt;
    if (many != streaming_.load(std::memory_order_relaxed)) streaming_.store(many, std::memory_order_relaxed);
    if (!many) return;
    outbox_.swap(inbox_);
    first_slot_.store(inbox_.first_slot(), std::memory_order_relaxed);
}

// Hands an item to the first getter, or stores it. Precondition: open, and not full unless a getter waits.
template <class T>
void Channel<T>::accept(T&& item, WakeList<T>& wakes) {
    if (Waiter<T>* getter = getters_.empty() ? nullptr : getters_.claim_first(); getter != nullptr) {
        getter->item.emplace(std::move(item));
        getter->order = taken_++;
        wakes.finish(*getter, Outcome::kDone);
    } else {
        store(std::move(item));
    }
    ++unfinished_;
}

// Takes the first item, and lets a waiting putter fill the room. Under both locks and not empty, or ready().
template <class T>
T Channel<T>::take(std::uint64_t& order, WakeList<T>& wakes, Ring<T>& emptied) {
    if (!returned_.empty()) [[unlikely]] {
        Returned first = std::move(returned_.back());
        returned_.pop_back();
        order = first.order;
        if (!putters_.empty()) admit_putters(wakes);
        return std::move(first.item);
    }
    Ring<T>& oldest = outbox_.empty() ? inbox_ : outbox_;
    T item = oldest.pop();
    order = taken_++;
    if (capacity_ != 0 && !putters_.empty()) admit_putters(wakes);
    // The memory of a burst is returned, but not that of the usual ups and downs.
    constexpr std::uint32_t kKept = 4096;
    if (oldest.empty() && oldest.slot_count() > kKept) emptied.swap(oldest);  // first_slot_ is null already
    return item;
}

template <class T>
void Channel<T>::admit_putters(WakeList<T>& wakes) {
    while (!full()) {
        Waiter<T>* putter = putters_.claim_first();
        if (putter == nullptr) return;
        accept(std::move(*putter->item), wakes);
        wakes.finish(*putter, Outcome::kDone);
    }
}

template <class T>
void Channel<T>::finish_joiners(WakeList<T>& wakes) {
    if (unfinished_ != 0) return;
    while (Waiter<T>* joiner = joiners_.claim_first()) wakes.finish(*joiner, Outcome::kDone);
}

template <class T>
Result<void> Channel<T>::try_put(T&& item) {
    WakeList<T> wakes;
    fetch_ahead();
    {
        const std::lock_guard guard(put_lock_);
        if (closed()) return failure(ErrorCode::kClosed);
        if (full()) return failure(ErrorCode::kFull);
        accept(std::move(item), wakes);
    }
    wakes.wake();
    return {};
}

template <class T>
Result<std::size_t> Channel<T>::try_put_many(std::span<T> items) {
    WakeList<T> wakes;
    std::size_t count = 0;
    {
        const std::lock_guard guard(put_lock_);
        if (closed()) return failure(ErrorCode::kClosed);
        while (count < items.size() && !full()) accept(std::move(items[count++]), wakes);
    }
    wakes.wake();
    return count;
}

template <class T>
bool Channel<T>::begin_put(Waiter<T>& waiter) {
    WakeList<T> wakes;
    fetch_ahead();
    {
        const std::lock_guard guard(put_lock_);
        if (closed()) {
            waiter.outcome = Outcome::kClosed;
            return true;
        }
        if (full()) {
            putters_.push_back(waiter);
            return false;
        }
        accept(std::move(*waiter.item), wakes);
        waiter.outcome = Outcome::kDone;
    }
    wakes.wake();
    return true;
}

template <class T>
Result<void> Channel<T>::put(T&& item, Deadline deadline) {
    Waiter<T> waiter(std::move(item));
    const Wake wake = begin_put(waiter) ? Wake::kUnparked : wait(putters_, waiter, deadline);
    if (wake == Wake::kUnparked && waiter.outcome == Outcome::kDone) return {};
    item = std::move(*waiter.item);
    if (wake == Wake::kTimedOut) return failure(ErrorCode::kTimedOut);
    return failure(wake == Wake::kInterrupted ? ErrorCode::kInterrupted : ErrorCode::kClosed);
}

template <class T>
Result<T> Channel<T>::try_get(std::uint64_t* place) {
    WakeList<T> wakes;
    Ring<T> emptied;
    std::uint64_t order = 0;
    Guard getting(get_lock_);
    Guard putting(put_lock_, std::defer_lock);
    if (!ready()) {
        putting.lock();
        if (size_locked() == 0) return failure(closed() ? ErrorCode::kClosed : ErrorCode::kEmpty);
        refill();
        if (ready()) putting.unlock();
    }
    Result<T> item(take(order, wakes, emptied));
    if (place != nullptr) *place = order;
    if (putting) putting.unlock();
    getting.unlock();
    wakes.wake();
    return item;
}

template <class T>
std::size_t Channel<T>::try_get_many(std::vector<T>& items, std::size_t most,
                                     std::vector<std::uint64_t>* places) {
    WakeList<T> wakes;
    Ring<T> emptied;
    std::uint64_t order = 0;
    std::size_t count = 0;
    {
        const std::lock_guard getting(get_lock_);
        const std::lock_guard putting(put_lock_);
        most = std::min(most, size_locked());
        items.reserve(items.size() + most);
        if (places != nullptr) places->reserve(places->size() + most);
        // Not beyond what was there: putters that refill the channel as it empties must not hold us here.
        for (; count < most; ++count) {
            items.push_back(take(order, wakes, emptied));
            if (places != nullptr) places->push_back(order);
        }
    }
    wakes.wake();
    return count;
}

template <class T>
bool Channel<T>::begin_get(Waiter<T>& waiter) {
    WakeList<T> wakes;
    Ring<T> emptied;
    {
        Guard getting(get_lock_);
        Guard putting(put_lock_, std::defer_lock);
        if (!ready()) {
            putting.lock();
            if (size_locked() == 0 && !closed()) {
                getters_.push_back(waiter);
                return false;
            }
        }
        if (!waiter.claim()) return true;
        if (putting) {
            if (size_locked() == 0) {
                waiter.outcome = Outcome::kClosed;
                return true;
            }
            refill();
            if (ready()) putting.unlock();
        }
        waiter.item.emplace(take(waiter.order, wakes, emptied));
        waiter.outcome = Outcome::kDone;
    }
    wakes.wake();
    return true;
}

template <class T>
Result<T> Channel<T>::get(Deadline deadline) {
    await_briefly();
    Waiter<T> waiter;
    const Wake wake = begin_get(waiter) ? Wake::kUnparked : wait(getters_, waiter, deadline);
    if (wake == Wake::kTimedOut) return failure(ErrorCode::kTimedOut);
    if (wake == Wake::kInterrupted) return failure(ErrorCode::kInterrupted);
    if (waiter.outcome == Outcome::kClosed) return failure(ErrorCode::kClosed);
    return Result<T>(std::move(*waiter.item));
}

// Waits for a queued waiter. kUnparked: it has an outcome. Else it was taken out of the list.
template <class T>
Wake Channel<T>::wait(WaitList<T>& list, Waiter<T>& waiter, Deadline deadline) {
    Parker& parker = Parker::of_this_thread();
    const Wake wake = parker.wait(*waiter.handoff, deadline);
    if (wake == Wake::kUnparked || cancel(list, waiter)) return wake;
    while (parker.wait(*waiter.handoff, Deadline::never()) != Wake::kUnparked) {
    }
    return Wake::kUnparked;
}

template <class T>
bool Channel<T>::cancel(WaitList<T>& list, Waiter<T>& waiter) {
    const std::lock_guard guard(put_lock_);
    if (!waiter.queued()) return waiter.outcome == Outcome::kWaiting;
    list.remove(waiter);
    return true;
}

template <class T>
bool Channel<T>::waits(const Waiter<T>& waiter) const {
    const std::lock_guard guard(put_lock_);
    return waiter.queued();
}

template <class T>
void Channel<T>::give_back(Waiter<T>& waiter) {
    if (waiter.outcome != Outcome::kDone || !waiter.item.has_value()) return;
    give_back(std::move(*waiter.item), waiter.order);
    waiter.item.reset();
}

template <class T>
void Channel<T>::give_back(T&& item, std::uint64_t place) {
    WakeList<T> wakes;
    {
        const std::lock_guard getting(get_lock_);
        const std::lock_guard putting(put_lock_);
        if (discarded_) {
            // close() has counted only what was in the channel then.
            if (unfinished_ > 0) --unfinished_;
            finish_joiners(wakes);
        } else if (Waiter<T>* getter = getters_.claim_first(); getter != nullptr) {
            getter->item.emplace(std::move(item));
            getter->order = place;
            wakes.finish(*getter, Outcome::kDone);
        } else {
            const auto before =
                std::ranges::lower_bound(returned_, place, std::greater<>(), &Returned::order);
            returned_.insert(before, Returned{place, std::move(item)});
        }
    }
    wakes.wake();
}

template <class T>
void Channel<T>::close(Close how) {
    WakeList<T> wakes;
    Ring<T> dropped_inbox;
    Ring<T> dropped_outbox;
    std::vector<Returned> dropped_returned;
    {
        const std::lock_guard getting(get_lock_);
        const std::lock_guard putting(put_lock_);
        closed_.store(true, std::memory_order_relaxed);
        while (Waiter<T>* putter = putters_.claim_first()) wakes.finish(*putter, Outcome::kClosed);
        while (Waiter<T>* getter = getters_.claim_first()) wakes.finish(*getter, Outcome::kClosed);
        if (how == Close::kDiscard) {
            discarded_ = true;
            unfinished_ -= std::min<std::uint64_t>(unfinished_, size_locked());
            dropped_inbox.swap(inbox_);
            dropped_outbox.swap(outbox_);
            first_slot_.store(nullptr, std::memory_order_relaxed);
            dropped_returned.swap(returned_);
            finish_joiners(wakes);
        }
    }
    wakes.wake();
}

template <class T>
void Channel<T>::await_briefly() const noexcept {
    if (outbox_.empty()) {
        // Where items come in a stream, a few more may gather meanwhile: each look, and each taking of items
        // from the inbox, costs the putters a cache line.
        constexpr int kGathering = 100;  // about a microsecond
        if (streaming_.load(std::memory_order_relaxed) && spin_time().count() > 0) {
            for (int i = 0; i < kGathering; ++i) cpu_relax();
        }
        if (!look([this] { return !inbox_.empty() || !outbox_.empty() || closed(); })) return;
    }
    fetch_ahead();
}

template <class T>
std::size_t Channel<T>::size() const {
    const std::lock_guard getting(get_lock_);
    const std::lock_guard putting(put_lock_);
    return size_locked();
}

template <class T>
Result<void> Channel<T>::task_done() {
    WakeList<T> wakes;
    {
        const std::lock_guard guard(put_lock_);
        if (unfinished_ == 0)
            return failure(ErrorCode::kInvalidArgument, "task_done() called too many times");
        --unfinished_;
        finish_joiners(wakes);
    }
    wakes.wake();
    return {};
}

template <class T>
std::uint64_t Channel<T>::unfinished() const {
    const std::lock_guard guard(put_lock_);
    return unfinished_;
}

template <class T>
bool Channel<T>::begin_join(Waiter<T>& waiter) {
    const std::lock_guard guard(put_lock_);
    if (unfinished_ == 0) {
        waiter.outcome = Outcome::kDone;
        return true;
    }
    joiners_.push_back(waiter);
    return false;
}

}  // namespace syncyte
