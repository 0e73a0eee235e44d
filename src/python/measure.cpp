// What the system itself can do, for benchmarks to hold ours against.
#include "python/measure.h"

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <thread>
#include <vector>

#include "base/futex.h"
#include "python/reference.h"
#include "python/wait.h"

namespace syncyte::python {

namespace {

// Two words that two threads take turns to set and to sleep on.
struct PingPong {
    std::atomic<std::uint32_t> there{0};
    std::atomic<std::uint32_t> back{0};
};

void pass(std::atomic<std::uint32_t>& word, std::uint32_t turn) {
    word.store(turn);
    futex_wake_one(word);
}

void await(const std::atomic<std::uint32_t>& word, std::uint32_t turn) {
    while (word.load() != turn) futex_wait(word, turn - 1, Deadline::never());
}

// False when the calling thread may not run on that core.
bool stay_on(int core) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<unsigned>(core), &one);
    return pthread_setaffinity_np(pthread_self(), sizeof one, &one) == 0;
}

// Empty when the peer may not run on its core.
std::vector<double> ping_pong(std::uint32_t count, int core) {
    PingPong words;
    std::atomic<int> placed{-1};
    const std::jthread peer([&words, &placed, count, core] {
        placed = stay_on(core) ? 1 : 0;
        placed.notify_one();
        if (placed == 0) return;
        for (std::uint32_t turn = 1; turn <= count; ++turn) {
            await(words.there, turn);
            pass(words.back, turn);
        }
    });
    placed.wait(-1);
    std::vector<double> microseconds;
    if (placed == 0) return microseconds;
    microseconds.reserve(count);
    for (std::uint32_t turn = 1; turn <= count; ++turn) {
        const auto start = Clock::now();
        pass(words.there, turn);
        await(words.back, turn);
        microseconds.push_back(seconds_between(start, Clock::now()) * 1e6);
    }
    return microseconds;
}

PyObject* futex_round_trips(PyObject* /*module*/, PyObject* arguments) {
    unsigned int count = 0;
    int core = 0;
    if (PyArg_ParseTuple(arguments, "Ii:_futex_round_trips", &count, &core) == 0) return nullptr;
    if (count < 1 || count > 1'000'000 || core < 0 || core >= CPU_SETSIZE) {
        PyErr_SetString(PyExc_ValueError,
                        "the count must be between 1 and a million, the core one of the machine's");
        return nullptr;
    }
    std::vector<double> microseconds;
    {
        const Detached detached;
        microseconds = ping_pong(count, core);
    }
    if (microseconds.empty()) {
        PyErr_Format(PyExc_ValueError, "this process may not run on core %d", core);
        return nullptr;
    }
    Reference list = Reference::adopt(PyList_New(static_cast<Py_ssize_t>(count)));
    if (!list) return nullptr;
    for (std::size_t i = 0; i < microseconds.size(); ++i) {
        PyObject* item = PyFloat_FromDouble(microseconds[i]);
        if (item == nullptr) return nullptr;
        PyList_SET_ITEM(list.get(), static_cast<Py_ssize_t>(i), item);
    }
    return list.leak();
}

PyMethodDef functions[] = {
    {"_futex_round_trips", futex_round_trips, METH_VARARGS,
     "_futex_round_trips(count, core, /)\n--\n\n"
     "Passes a bare futex to a thread on that core and back, count times: the microseconds of each round "
     "trip."},
    {},
};

}  // namespace

int register_measure(PyObject* module, ModuleState& /*state*/) {
    return PyModule_AddFunctions(module, functions);
}

}  // namespace syncyte::python
