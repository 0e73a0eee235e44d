// All the workers that one interpreter made, busy or between pools.
#pragma once

#include <Python.h>

#include <mutex>
#include <vector>

#include "base/ref.h"
#include "python/notifier.h"
#include "python/pool.h"
#include "python/sleepers.h"
#include "python/supervisor.h"
#include "python/worker.h"

namespace syncyte::python {

// Owned by syncyte._pool in the home interpreter. Workers are never destroyed between pools: CPython 3.14
// does not give back an interpreter's memory, and making one takes ten milliseconds.
class Crew : public RefCounted {
  public:
    explicit Crew(PyInterpreterState* home)
        : home_(home), notifier_(make_ref<Notifier>(home)), supervisor_(make_ref<Supervisor>(*this)) {}

    // Whether pools may be opened: until dismiss().
    [[nodiscard]] bool open() const;

    // Puts workers at places of the pool: idle ones first, then new ones.
    void staff(const Ref<Pool>& pool, const std::vector<int>& places);

    // From a worker whose pool is over, or whose thread ends.
    void come_home(Worker& worker);
    void gone(Worker& worker);

    // Ends every worker once its pool is done; no pool may be opened from now on. wait_gone() blocks until
    // all threads left their interpreters (kTimedOut, kInterrupted); call it detached.
    void dismiss();
    Result<void> wait_gone(Deadline deadline);

    // Interrupts `job` (null: any) of `pool` (null: any) wherever it runs. Detached.
    void interrupt(const Pool* pool, const Job* job);

    // If `job` still runs: another worker takes its worker's place in the pool. True if so.
    bool replace(const Ref<Pool>& pool, const Job* job);

    // Gives the pool a spare worker for each that waits in the midst of its task, while jobs wait for a
    // worker; takes them back later. False when there is nothing more to look after. For the supervisor.
    bool even_out(const Ref<Pool>& pool);

    // Whether some worker runs `job` now.
    [[nodiscard]] bool runs(const Job* job) const;

    [[nodiscard]] const Ref<Supervisor>& supervisor() const { return supervisor_; }
    [[nodiscard]] const Ref<Notifier>& notifier() const { return notifier_; }
    [[nodiscard]] PyInterpreterState* home() const { return home_; }
    [[nodiscard]] std::size_t idle() const;

  private:
    PyInterpreterState* const home_;
    const Ref<Notifier> notifier_;
    const Ref<Supervisor> supervisor_;
    mutable std::mutex mutex_;
    std::vector<Ref<Worker>> workers_;
    std::vector<Worker*> idle_;
    std::size_t gone_ = 0;
    bool dismissed_ = false;
    Sleepers waiting_;
};

}  // namespace syncyte::python
