// Where a worker does its jobs: the Python objects of its interpreter that every job needs.
#pragma once

#include <Python.h>

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <utility>

#include "python/memory_meter.h"
#include "python/pool.h"
#include "python/state.h"
#include "python/task.h"

namespace syncyte::python {

// Lives on the stack of a worker's thread between entering an interpreter and leaving it. Every member
// function is called attached to that interpreter, and leaves no Python error set unless it says so.
class Desk {
  public:
    // nullptr with a Python error set when syncyte cannot be imported here.
    static std::unique_ptr<Desk> open(std::int64_t interpreter);
    ~Desk();
    Desk(const Desk&) = delete;
    Desk& operator=(const Desk&) = delete;

    // Calls `function` with a tuple and a dict (or None) of arguments.
    TaskOutcome call(const Function& function, const Value& args, const Value& kwargs);

    // A new reference to what `function` stands for here; nullptr with a Python error set.
    PyObject* callable(const Function& function);

    // `result` (stolen; nullptr: the Python error that is set) as an outcome.
    TaskOutcome outcome_of(PyObject* result);

    // Prepares the interpreter for a pool: import path, warm-up, initializer. Not returned: it cannot serve.
    TaskOutcome enter(const Value& setup);
    // Forgets what the pool's tasks brought along; libraries stay imported.
    void leave();

    [[nodiscard]] ModuleState& state() const { return *state_; }
    [[nodiscard]] std::int64_t interpreter() const { return interpreter_; }
    [[nodiscard]] int worker() const { return worker_; }
    // From now on jobs are those of this pool, done in its place `index`.
    void serve(Ref<Pool> pool, int index);
    // The running task's time is up in `seconds`.
    void limit(Ref<Task> task, double seconds);

    // What the job that runs has done.
    void count_tasks(std::uint64_t done) { tasks_ += done; }
    std::uint64_t take_tasks();

    // Tasks that may still be done before the interpreter is to be recycled; 0: it is time.
    [[nodiscard]] std::uint64_t tasks_left() const;
    [[nodiscard]] bool needs_recycling() const { return tasks_left() == 0; }
    // The meter of this interpreter; null: nothing is counted.
    [[nodiscard]] MemoryMeter* meter() const { return meter_; }
    // Back to the warm state, and the pool's initializer again. Not returned: it cannot serve.
    TaskOutcome recycle(const Value& setup);

    // While it lives, what a task allocates is held to the pool's memory limit. Scopes may nest.
    class Limited {
      public:
        explicit Limited(const Desk& desk);
        ~Limited();
        Limited(const Limited&) = delete;
        Limited& operator=(const Limited&) = delete;

      private:
        MemoryMeter* const meter_;  // null: no limit
        std::int64_t before_ = 0;
    };

  private:
    Desk() = default;
    TaskOutcome raised();
    TaskOutcome call_own(const char* name, PyObject* argument);
    TaskOutcome prepare(const char* name, const Value& setup);
    void forget_functions();

    ModuleState* state_ = nullptr;
    PyObject* core_ = nullptr;
    PyObject* worker_module_ = nullptr;
    PyObject* load_ = nullptr;
    PyObject* describe_ = nullptr;
    PyObject* interrupted_ = nullptr;
    std::unordered_map<std::uint64_t, PyObject*> functions_;
    MemoryMeter* meter_ = nullptr;
    Ref<Pool> pool_;
    std::int64_t interpreter_ = -1;
    int worker_ = -1;
    std::uint64_t tasks_ = 0;     // since they were taken last
    std::uint64_t recycled_ = 0;  // tasks done since then, tasks_ left out
};

}  // namespace syncyte::python
