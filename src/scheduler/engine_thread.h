// The one thread that computes, for all models and all interpreters of the process.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/parking.h"
#include "scheduler/engine_work.h"

namespace syncyte {

// Serves one step at a time, of the work that has had least of its time among those with something to do: so
// models share it evenly, however long their steps take, and so do generating and embedding. Starts with the
// first, ends with the last. It never needs an interpreter, so whoever waits for it may hold a GIL. All
// signals are blocked on it.
//
// At exit() of the process it is stopped: what still runs fails with kClosed. After a fork() the child has
// no such thread: here() says so.
class EngineThread {
  public:
    static EngineThread& of_process();

    // kModel: this is a child after fork().
    [[nodiscard]] Result<void> here() const;
    // The same, and kClosed: the process is about to end.
    [[nodiscard]] Result<void> usable() const;
    Result<void> add(std::shared_ptr<EngineWork> work);
    // Ends what it still holds and destroys it, on the engine thread, soon. Does not wait.
    void remove(std::shared_ptr<EngineWork> work);
    // Work has arrived.
    void wake();
    // Returns when the thread has ended. Later calls of add() fail.
    void stop();

  private:
    EngineThread() = default;

    void start();
    void run();
    bool take_changes(std::vector<std::shared_ptr<EngineWork>>& active);
    void finish();

    pid_t process_ = 0;  // which this thread lives in
    mutable std::mutex mutex_;
    std::vector<std::shared_ptr<EngineWork>> works_;
    std::vector<std::shared_ptr<EngineWork>> removed_;
    std::thread thread_;
    bool running_ = false;
    bool stops_at_exit_ = false;
    std::atomic<bool> stopping_{false};
    std::atomic<Parker*> parker_{nullptr};  // of the thread, while it runs
};

}  // namespace syncyte
