// Python arguments of the model's methods, as the core takes them.
#pragma once

#include <Python.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model.h"
#include "scheduler/request.h"

namespace syncyte::python {

// The text of a str, valid while the object lives. Empty with ValueError set for lone surrogates, TypeError
// for anything but str; `what` names it in the message.
std::optional<std::string_view> text_of(PyObject* object, const char* what);

// None is nothing. False with an error set when it is neither None nor an int that fits.
bool optional_int(PyObject* object, const char* what, std::optional<std::int32_t>& value);

// None is nothing. False with an error set when it is neither None nor a bool.
bool optional_bool(PyObject* object, const char* what, std::optional<bool>& value);

// None is nothing. False with an error set when it is neither None nor a list or tuple of str.
bool optional_texts(PyObject* object, const char* what, std::optional<std::vector<std::string>>& value);

// Tokens of a list or tuple of int; outside the vocabulary is ValueError.
std::optional<std::vector<Token>> tokens_of(PyObject* object, const Model& model);

// A list or tuple of str.
std::optional<std::vector<std::string>> texts_of(PyObject* object, const char* what);

}  // namespace syncyte::python
