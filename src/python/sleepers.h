// A condition variable made of Parkers: threads that wait for something their owner's mutex guards.
#pragma once

#include <mutex>

#include "base/clock.h"
#include "base/error.h"
#include "base/parking.h"

namespace syncyte::python {

// Every member is called with the owner's mutex held; wait() gives it up while parked. Wake-ups may be
// spurious: test the condition again.
class Sleepers {
  public:
    Wake wait(std::unique_lock<std::mutex>& lock, Deadline deadline) {
        Node node{&Parker::of_this_thread(), first_, &first_};
        if (first_ != nullptr) first_->link = &node.next;
        first_ = &node;
        lock.unlock();
        const Wake wake = node.parker->park(deadline);
        lock.lock();
        if (node.link != nullptr) {
            *node.link = node.next;
            if (node.next != nullptr) node.next->link = node.link;
        }
        return wake;
    }

    // A woken thread cannot leave wait(), nor die, before the mutex is free again.
    void wake_all() {
        for (Node* node = first_; node != nullptr;) {
            Node* next = node->next;
            node->link = nullptr;
            node->parker->unpark();
            node = next;
        }
        first_ = nullptr;
    }

  private:
    struct Node {
        Parker* parker;
        Node* next;
        Node** link;  // what points at this node; nullptr once woken
    };

    Node* first_ = nullptr;
};

// Waits until `done()` holds. kTimedOut or kInterrupted otherwise.
template <class Done>
Result<void> wait_until(Sleepers& list, std::unique_lock<std::mutex>& lock, Deadline deadline, Done&& done) {
    while (!done()) {
        if (deadline.passed()) return std::unexpected(ErrorCode::kTimedOut);
        if (list.wait(lock, deadline) == Wake::kInterrupted && !done()) {
            return std::unexpected(ErrorCode::kInterrupted);
        }
    }
    return {};
}

}  // namespace syncyte::python
