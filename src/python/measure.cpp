// What the system itself can do, for benchmarks to hold ours against.
#include "python/measure.h"

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

std::vector<double> ping_pong(std::uint32_t count) {
    PingPong words;
    const std::jthread peer([&words, count] {
        for (std::uint32_t turn = 1; turn <= count; ++turn) {
            await(words.there, turn);
            pass(words.back, turn);
        }
    });
    std::vector<double> microseconds;
    microseconds.reserve(count);
    for (std::uint32_t turn = 1; turn <= count; ++turn) {
        const auto start = Clock::now();
        pass(words.there, turn);
        await(words.back, turn);
        microseconds.push_back(seconds_between(start, Clock::now()) * 1e6);
    }
    return microseconds;
}

PyObject* futex_round_trips(PyObject* /*module*/, PyObject* argument) {
    const long count = PyLong_AsLong(argument);
    if (count == -1 && PyErr_Occurred() != nullptr) return nullptr;
    if (count < 1 || count > 1'000'000) {
        PyErr_SetString(PyExc_ValueError, "the count must be between 1 and a million");
        return nullptr;
    }
    std::vector<double> microseconds;
    {
        const Detached detached;
        microseconds = ping_pong(static_cast<std::uint32_t>(count));
    }
    Reference list = Reference::adopt(PyList_New(count));
    if (!list) return nullptr;
    for (std::size_t i = 0; i < microseconds.size(); ++i) {
        PyObject* item = PyFloat_FromDouble(microseconds[i]);
        if (item == nullptr) return nullptr;
        PyList_SET_ITEM(list.get(), static_cast<Py_ssize_t>(i), item);
    }
    return list.leak();
}

PyMethodDef functions[] = {
    {"_futex_round_trips", futex_round_trips, METH_O,
     "_futex_round_trips(count, /)\n--\n\n"
     "Passes a bare futex between two threads and back, count times: the microseconds of each round trip."},
    {},
};

}  // namespace

int register_measure(PyObject* module, ModuleState& /*state*/) {
    return PyModule_AddFunctions(module, functions);
}

}  // namespace syncyte::python
