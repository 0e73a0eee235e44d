#include "python/desk.h"

#include <limits>
#include <optional>
#include <utility>

#include "python/convert.h"
#include "python/supervisor.h"

namespace syncyte::python {

namespace {

// Enough for any program's functions; one that makes them in a loop starts over now and then.
constexpr std::size_t kMostFunctions = 512;

}  // namespace

std::unique_ptr<Desk> Desk::open(std::int64_t interpreter) {
    std::unique_ptr<Desk> desk(new Desk);
    desk->interpreter_ = interpreter;
    desk->meter_ = memory_meter_here();
    desk->core_ = PyImport_ImportModule("syncyte._core");
    if (desk->core_ == nullptr) return nullptr;
    desk->state_ = &state_of(desk->core_);
    desk->worker_module_ = PyImport_ImportModule("syncyte._worker");
    if (desk->worker_module_ == nullptr) return nullptr;
    desk->load_ = PyObject_GetAttrString(desk->worker_module_, "load");
    desk->describe_ = PyObject_GetAttrString(desk->worker_module_, "describe");
    desk->interrupted_ = PyObject_GetAttrString(desk->worker_module_, "TaskInterrupted");
    if (desk->load_ == nullptr || desk->describe_ == nullptr || desk->interrupted_ == nullptr) return nullptr;
    return desk;
}

Desk::~Desk() {
    forget_functions();
    Py_XDECREF(interrupted_);
    Py_XDECREF(describe_);
    Py_XDECREF(load_);
    Py_XDECREF(worker_module_);
    Py_XDECREF(core_);
}

void Desk::serve(Ref<Pool> pool, int index) {
    pool_ = std::move(pool);
    worker_ = index;
    recycled_ = 0;
}

std::uint64_t Desk::take_tasks() {
    recycled_ += tasks_;
    return std::exchange(tasks_, 0);
}

Desk::Limited::Limited(const Desk& desk)
    : meter_(desk.pool_->options().memory_limit == 0 ? nullptr : desk.meter_) {
    if (meter_ != nullptr) before_ = meter_->limit.exchange(desk.pool_->options().memory_limit);
}

Desk::Limited::~Limited() {
    if (meter_ != nullptr) meter_->limit.store(before_);
}

std::uint64_t Desk::tasks_left() const {
    if (meter_ != nullptr && meter_->exceeded.load(std::memory_order_relaxed)) return 0;
    const std::uint64_t most = pool_->options().recycle_after;
    if (most == 0) return std::numeric_limits<std::uint64_t>::max();
    const std::uint64_t done = recycled_ + tasks_;
    return done >= most ? 0 : most - done;
}

void Desk::limit(Ref<Task> task, double seconds) {
    pool_->supervisor()->limit(std::move(task), pool_, Deadline::after(seconds).time());
}

void Desk::forget_functions() {
    std::unordered_map<std::uint64_t, PyObject*> functions;
    functions.swap(functions_);  // a finalizer may come back here
    for (const auto& [id, callable] : functions) Py_DECREF(callable);
}

PyObject* Desk::callable(const Function& function) {
    if (const auto found = functions_.find(function.id); found != functions_.end()) {
        return Py_NewRef(found->second);
    }
    PyObject* bytes =
        PyBytes_FromStringAndSize(function.bytes.data(), static_cast<Py_ssize_t>(function.bytes.size()));
    if (bytes == nullptr) return nullptr;
    PyObject* callable = PyObject_CallOneArg(load_, bytes);
    Py_DECREF(bytes);
    if (callable == nullptr || !function.keep) return callable;
    if (functions_.size() >= kMostFunctions) forget_functions();
    functions_.emplace(function.id, Py_NewRef(callable));
    return callable;
}

TaskOutcome Desk::call(const Function& function, const Value& args, const Value& kwargs) {
    PyObject* result = nullptr;
    if (PyObject* target = callable(function)) {
        if (PyObject* positional = from_value(*state_, args)) {
            PyObject* named = from_value(*state_, kwargs);
            if (named != nullptr) {
                const Limited limited(*this);
                result = PyObject_Call(target, positional, named == Py_None ? nullptr : named);
            }
            Py_XDECREF(named);
            Py_DECREF(positional);
        }
        Py_DECREF(target);
    }
    return outcome_of(result);
}

TaskOutcome Desk::outcome_of(PyObject* result) {
    if (result == nullptr) return raised();
    std::optional<Value> value = to_value(*state_, result);
    Py_DECREF(result);
    if (!value) return raised();
    return {.ending = Ending::kReturned, .value = std::move(*value), .failure = {}, .message = {}};
}

TaskOutcome Desk::enter(const Value& setup) { return prepare("enter", setup); }

TaskOutcome Desk::recycle(const Value& setup) {
    forget_functions();
    recycled_ = 0;
    if (meter_ != nullptr) meter_->exceeded.store(false, std::memory_order_relaxed);
    return prepare("recycle", setup);
}

TaskOutcome Desk::prepare(const char* name, const Value& setup) {
    PyObject* argument = from_value(*state_, setup);
    return argument == nullptr ? raised() : call_own(name, argument);
}

void Desk::leave() {
    forget_functions();
    (void)call_own("leave", nullptr);
    pool_ = nullptr;
}

// A function of syncyte._worker, called with `argument` (stolen, may be nullptr).
TaskOutcome Desk::call_own(const char* name, PyObject* argument) {
    PyObject* result = nullptr;
    if (PyObject* function = PyObject_GetAttrString(worker_module_, name)) {
        result =
            argument == nullptr ? PyObject_CallNoArgs(function) : PyObject_CallOneArg(function, argument);
        Py_DECREF(function);
    }
    Py_XDECREF(argument);
    return outcome_of(result);
}

TaskOutcome Desk::raised() {
    TaskOutcome outcome{.ending = Ending::kRaised, .value = {}, .failure = {}, .message = {}};
    PyObject* error = PyErr_GetRaisedException();
    if (Py_IS_TYPE(error, reinterpret_cast<PyTypeObject*>(interrupted_))) {
        Py_DECREF(error);
        outcome.ending = Ending::kCancelled;
        return outcome;
    }
    // describe() says in plain values how the error looked, and what of it can travel.
    PyObject* display = PyObject_CallOneArg(describe_, error);
    std::optional<Value> value = display == nullptr ? std::nullopt : to_value(*state_, display);
    if (value) {
        outcome.failure.display = std::move(*value);
    } else {
        PyErr_Clear();
        outcome.message = Py_TYPE(error)->tp_name;
    }
    if (std::optional<Value> exception = to_value(*state_, error)) {
        outcome.failure.exception = std::move(*exception);
    } else {
        PyErr_Clear();
    }
    Py_XDECREF(display);
    Py_DECREF(error);
    return outcome;
}

}  // namespace syncyte::python
