#include "python/model_arguments.h"

#include <cstdint>
#include <limits>

namespace syncyte::python {

std::optional<std::string_view> text_of(PyObject* object, const char* what) {
    if (!PyUnicode_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s must be str, not %T", what, object);
        return std::nullopt;
    }
    Py_ssize_t size = 0;
    const char* text = PyUnicode_AsUTF8AndSize(object, &size);
    if (text != nullptr) return std::string_view(text, static_cast<std::size_t>(size));
    if (PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError,
                     "%s holds a lone surrogate, which is not text; decode it with errors=\"replace\"", what);
    }
    return std::nullopt;
}

bool optional_int(PyObject* object, const char* what, std::optional<std::int32_t>& value) {
    value.reset();
    if (object == Py_None) return true;
    if (!PyLong_Check(object) || PyBool_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s must be int or None, not %T", what, object);
        return false;
    }
    int overflow = 0;
    const long number = PyLong_AsLongAndOverflow(object, &overflow);
    if (overflow != 0 || number < std::numeric_limits<std::int32_t>::min() ||
        number > std::numeric_limits<std::int32_t>::max()) {
        PyErr_Format(PyExc_ValueError, "%s is out of range: %S", what, object);
        return false;
    }
    value = static_cast<std::int32_t>(number);
    return true;
}

bool optional_bool(PyObject* object, const char* what, std::optional<bool>& value) {
    value.reset();
    if (object == Py_None) return true;
    if (!PyBool_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s must be bool or None, not %T", what, object);
        return false;
    }
    value = object == Py_True;
    return true;
}

bool optional_texts(PyObject* object, const char* what, std::optional<std::vector<std::string>>& value) {
    value.reset();
    if (object == Py_None) return true;
    if (!PyList_Check(object) && !PyTuple_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s must be a list of str or None, not %T", what, object);
        return false;
    }
    value = texts_of(object, what);
    return value.has_value();
}

std::optional<std::vector<Token>> tokens_of(PyObject* object, const Model& model) {
    PyObject* items = PySequence_Fast(object, "tokens must be a list of int");
    if (items == nullptr) return std::nullopt;
    const Py_ssize_t size = PySequence_Fast_GET_SIZE(items);
    std::vector<Token> tokens;
    tokens.reserve(static_cast<std::size_t>(size));
    const long most = model.info().vocabulary_size - 1;
    for (Py_ssize_t i = 0; i < size; ++i) {
        int overflow = 0;
        PyObject* item = PySequence_Fast_GET_ITEM(items, i);
        const long token = PyLong_AsLongAndOverflow(item, &overflow);
        if (token == -1 && overflow == 0 && PyErr_Occurred() != nullptr) {
            Py_DECREF(items);
            return std::nullopt;
        }
        if (overflow != 0 || token < 0 || token > most) {
            PyErr_Format(PyExc_ValueError, "token %S is not in the vocabulary (0 to %ld)", item, most);
            Py_DECREF(items);
            return std::nullopt;
        }
        tokens.push_back(static_cast<Token>(token));
    }
    Py_DECREF(items);
    return tokens;
}

std::optional<std::vector<std::string>> texts_of(PyObject* object, const char* what) {
    PyObject* items = PySequence_Fast(object, "a list of str is expected");
    if (items == nullptr) return std::nullopt;
    std::vector<std::string> texts;
    const Py_ssize_t size = PySequence_Fast_GET_SIZE(items);
    for (Py_ssize_t i = 0; i < size; ++i) {
        const auto text = text_of(PySequence_Fast_GET_ITEM(items, i), what);
        if (!text) {
            Py_DECREF(items);
            return std::nullopt;
        }
        texts.emplace_back(*text);
    }
    Py_DECREF(items);
    return texts;
}

}  // namespace syncyte::python
