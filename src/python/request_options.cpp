#include "python/request_options.h"

#include <string_view>
#include <utility>

#include "python/lora.h"
#include "python/model_arguments.h"

namespace syncyte::python {

namespace {

bool read(PyObject* value, float& into) {
    const double number = PyFloat_AsDouble(value);
    if (number == -1.0 && PyErr_Occurred() != nullptr) return false;
    into = static_cast<float>(number);
    return true;
}

bool read(PyObject* value, std::int32_t& into) {
    const int number = PyLong_AsInt(value);
    if (number == -1 && PyErr_Occurred() != nullptr) return false;
    into = number;
    return true;
}

bool read(PyObject* value, std::uint64_t& into) {
    into = PyLong_AsUnsignedLongLongMask(value);
    return PyErr_Occurred() == nullptr;
}

bool read(PyObject* value, std::vector<std::string>& into) {
    auto texts = texts_of(value, "a stop string");
    if (!texts) return false;
    into = std::move(*texts);
    return true;
}

// As checked: ints that fit.
bool read(PyObject* value, std::vector<Token>& into) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(value); ++i) {
        into.push_back(static_cast<Token>(PyLong_AsLong(PyTuple_GET_ITEM(value, i))));
    }
    return PyErr_Occurred() == nullptr;
}

// As checked: pairs of an int that fits and a float.
bool read(PyObject* value, std::vector<std::pair<Token, float>>& into) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(value); ++i) {
        int token = 0;
        float bias = 0;
        if (PyArg_ParseTuple(PyTuple_GET_ITEM(value, i), "if", &token, &bias) == 0) return false;
        into.emplace_back(token, bias);
    }
    return true;
}

bool read(PyObject* value, Mirostat& into) {
    into = static_cast<Mirostat>(PyLong_AsLong(value));
    return PyErr_Occurred() == nullptr;
}

bool read(PyObject* value, IgnoreEos& into) {
    const int yes = PyObject_IsTrue(value);
    into = IgnoreEos{yes > 0};
    return yes >= 0;
}

// Seconds from now.
bool read(PyObject* value, Deadline& into) {
    const double seconds = PyFloat_AsDouble(value);
    if (seconds == -1.0 && PyErr_Occurred() != nullptr) return false;
    into = Deadline::after(seconds);
    return true;
}

bool read(PyObject* value, std::string& into) {
    const auto text = text_of(value, "cache_salt");
    if (text) into = *text;
    return text.has_value();
}

bool read(PyObject* value, AppliedAdapter& into) { return read_lora(value, into); }

template <auto Member>
bool set(PyObject* value, RequestOptions& options) {
    return read(value, options.*Member);
}

template <auto Member>
bool set_sampling(PyObject* value, RequestOptions& options) {
    return read(value, options.sampling.*Member);
}

template <auto Member>
bool set_dry(PyObject* value, RequestOptions& options) {
    return read(value, options.sampling.dry.*Member);
}

struct Field {
    std::string_view name;
    bool (*set)(PyObject* value, RequestOptions& options);
};

constexpr Field kFields[] = {
    {"max_tokens", set<&RequestOptions::max_tokens>},
    {"stop", set<&RequestOptions::stops>},
    {"priority", set<&RequestOptions::priority>},
    {"deadline", set<&RequestOptions::deadline>},
    {"cache_salt", set<&RequestOptions::cache_salt>},
    {"speculate", set<&RequestOptions::draft_tokens>},
    {"lora", set<&RequestOptions::adapter>},
    {"ignore_eos", set<&RequestOptions::ignore_eos>},
    {"temperature", set_sampling<&SamplingParams::temperature>},
    {"top_k", set_sampling<&SamplingParams::top_k>},
    {"top_p", set_sampling<&SamplingParams::top_p>},
    {"min_p", set_sampling<&SamplingParams::min_p>},
    {"repeat_penalty", set_sampling<&SamplingParams::repeat_penalty>},
    {"stop_tokens", set<&RequestOptions::stop_tokens>},
    {"dry_breakers", set<&RequestOptions::dry_breakers>},
    {"dry_multiplier", set_dry<&DryParams::multiplier>},
    {"dry_base", set_dry<&DryParams::base>},
    {"dry_allowed_length", set_dry<&DryParams::allowed_length>},
    {"frequency_penalty", set_sampling<&SamplingParams::frequency_penalty>},
    {"presence_penalty", set_sampling<&SamplingParams::presence_penalty>},
    {"typical_p", set_sampling<&SamplingParams::typical_p>},
    {"mirostat", set_sampling<&SamplingParams::mirostat>},
    {"mirostat_tau", set_sampling<&SamplingParams::mirostat_tau>},
    {"mirostat_eta", set_sampling<&SamplingParams::mirostat_eta>},
    {"logit_bias", set_sampling<&SamplingParams::logit_bias>},
    {"logprobs", set_sampling<&SamplingParams::logprobs>},
    {"seed", set_sampling<&SamplingParams::seed>},
};

bool set_by_name(PyObject* name, PyObject* value, RequestOptions& options, std::string& grammar) {
    const auto text = text_of(name, "an option's name");
    if (!text) return false;
    if (*text == "grammar") {
        const auto rules = text_of(value, "the grammar");
        if (rules) grammar = *rules;
        return rules.has_value();
    }
    for (const Field& field : kFields) {
        if (field.name == *text) return field.set(value, options);
    }
    PyErr_Format(PyExc_SystemError, "the engine has no option %R", name);
    return false;
}

}  // namespace

bool read_request_options(PyObject* given, RequestOptions& options, std::string& grammar) {
    PyObject* name = nullptr;
    PyObject* value = nullptr;
    Py_ssize_t position = 0;
    while (PyDict_Next(given, &position, &name, &value) != 0) {
        if (!set_by_name(name, value, options, grammar)) return false;
    }
    return true;
}

}  // namespace syncyte::python
