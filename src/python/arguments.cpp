#include "python/arguments.h"

#include <algorithm>
#include <cmath>

namespace syncyte::python {

bool sort_arguments(const char* function, std::span<const char* const> names, std::size_t required,
                    PyObject* const* args, Py_ssize_t count, PyObject* keywords, std::span<PyObject*> slots) {
    const auto given = static_cast<std::size_t>(count);
    if (given > names.size()) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %zu arguments (%zu given)", function, names.size(),
                     given);
        return false;
    }
    std::ranges::fill(slots, nullptr);
    std::copy_n(args, given, slots.begin());
    const Py_ssize_t named = keywords == nullptr ? 0 : PyTuple_GET_SIZE(keywords);
    for (Py_ssize_t i = 0; i < named; ++i) {
        PyObject* keyword = PyTuple_GET_ITEM(keywords, i);
        std::size_t slot = 0;
        while (slot < names.size() && !PyUnicode_EqualToUTF8(keyword, names[slot])) ++slot;
        if (slot == names.size() || slots[slot] != nullptr) {
            PyErr_Format(PyExc_TypeError,
                         slot == names.size() ? "%s() got an unexpected keyword argument '%U'"
                                              : "%s() got multiple values for argument '%U'",
                         function, keyword);
            return false;
        }
        slots[slot] = args[count + i];
    }
    for (std::size_t slot = 0; slot < required; ++slot) {
        if (slots[slot] != nullptr) continue;
        PyErr_Format(PyExc_TypeError, "%s() missing required argument '%s'", function, names[slot]);
        return false;
    }
    return true;
}

std::optional<Deadline> deadline_of(PyObject* block, PyObject* timeout) {
    if (block != nullptr && block != Py_True) {
        const int blocks = PyObject_IsTrue(block);
        if (blocks < 0) return std::nullopt;
        if (blocks == 0) return Deadline::now();
    }
    if (timeout == nullptr || timeout == Py_None) return Deadline::never();
    const double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1 && PyErr_Occurred() != nullptr) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError) != 0) {
            PyErr_SetString(PyExc_ValueError, "'timeout' must be at most 1.8e308 seconds; None is no limit");
        } else if (PyErr_ExceptionMatches(PyExc_TypeError) != 0) {
            PyErr_Format(PyExc_TypeError, "'timeout' must be a number of seconds or None, not %.100s",
                         Py_TYPE(timeout)->tp_name);
        }
        return std::nullopt;
    }
    if (seconds < 0 || std::isnan(seconds)) {
        PyErr_SetString(PyExc_ValueError, "'timeout' must be a non-negative number");
        return std::nullopt;
    }
    return Deadline::after(seconds);
}

}  // namespace syncyte::python
