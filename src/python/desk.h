// Where a worker does its jobs: the Python objects of its interpreter that every job needs.
#pragma once

#include <Python.h>

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <utility>

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

    // A job did the work of that many tasks besides itself.
    void count_tasks(std::uint64_t more) { more_tasks_ += more; }
    std::uint64_t take_more_tasks() { return std::exchange(more_tasks_, 0); }

  private:
    Desk() = default;
    TaskOutcome raised();
    TaskOutcome call_own(const char* name, PyObject* argument);
    void forget_functions();

    ModuleState* state_ = nullptr;
    PyObject* core_ = nullptr;
    PyObject* worker_module_ = nullptr;
    PyObject* load_ = nullptr;
    PyObject* describe_ = nullptr;
    PyObject* interrupted_ = nullptr;
    std::unordered_map<std::uint64_t, PyObject*> functions_;
    Ref<Pool> pool_;
    std::int64_t interpreter_ = -1;
    int worker_ = -1;
    std::uint64_t more_tasks_ = 0;
};

}  // namespace syncyte::python
