#include "python/request.h"

#include <cstddef>
#include <utility>

#include "python/errors.h"
#include "python/leaving.h"
#include "python/queue_async.h"
#include "python/wait.h"
#include "scheduler/embedding_job.h"
#include "scheduler/engine_thread.h"

namespace syncyte::python {

namespace {

struct RequestObject {
    PyObject_HEAD Ref<Request> request;
    bool ended;  // its outcome was given out
    std::vector<TokenLogprobs> logprobs;
    Leaver leaver;
};

RequestObject& self_of(PyObject* object) { return *reinterpret_cast<RequestObject*>(object); }

bool is_pin(const Request& request) { return request.options().purpose == Purpose::kPinnedPrefix; }

// Whoever computes looks at it within a step; who rests has to be told that a pin is gone.
void give_up(Request& request) {
    request.cancel();
    if (is_pin(request)) EngineThread::of_process().wake();
}

// The interpreter ends: nobody will take the rest.
void leave(Leaver* leaver) {
    give_up(
        *reinterpret_cast<RequestObject*>(reinterpret_cast<char*>(leaver) - offsetof(RequestObject, leaver))
             ->request);
}

PyObject* token_list(const std::vector<Token>& tokens) {
    PyObject* list = PyList_New(static_cast<Py_ssize_t>(tokens.size()));
    if (list == nullptr) return nullptr;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        PyObject* number = PyLong_FromLong(tokens[i]);
        if (number == nullptr) {
            Py_DECREF(list);
            return nullptr;
        }
        PyList_SET_ITEM(list, static_cast<Py_ssize_t>(i), number);
    }
    return list;
}

// (text, tokens, None) or (text, tokens, (reason, queued, first_token, total, reused_tokens,
// drafted_tokens, accepted_tokens)).
PyObject* progress_tuple(const RequestProgress& progress) {
    PyObject* outcome = nullptr;
    if (progress.outcome) {
        const RequestOutcome& end = *progress.outcome;
        outcome = Py_BuildValue("sdddiii", to_string(end.reason), end.timings.queued, end.timings.first_token,
                                end.timings.total, static_cast<int>(end.reused_tokens),
                                static_cast<int>(end.drafted_tokens), static_cast<int>(end.accepted_tokens));
        if (outcome == nullptr) return nullptr;
    } else {
        outcome = Py_NewRef(Py_None);
    }
    PyObject* tokens = token_list(progress.tokens);
    if (tokens == nullptr) {
        Py_DECREF(outcome);
        return nullptr;
    }
    return Py_BuildValue("s#NN", progress.text.data(), static_cast<Py_ssize_t>(progress.text.size()), tokens,
                         outcome);
}

using Wait = Result<RequestProgress> (Request::*)(Deadline);

PyObject* raise_for(PyObject* object, const Error& error) {
    const ModuleState* state = state_of_type(Py_TYPE(object));
    return state == nullptr ? nullptr : raise_error(*state, error);
}

PyObject* wait_for(PyObject* object, Wait wait) {
    if (const Result<void> here = EngineThread::of_process().here(); !here) {
        return raise_for(object, here.error());
    }
    const Ref<Request> request = self_of(object).request;
    const auto progress =
        call_detached(Deadline::never(), [&](Deadline slice) { return ((*request).*wait)(slice); });
    if (progress) {
        if (progress->outcome) self_of(object).ended = true;
        self_of(object).logprobs.append_range(progress->logprobs);
        return progress_tuple(*progress);
    }
    // The exception of a signal handler is set already.
    if (progress.error().code == ErrorCode::kInterrupted) return nullptr;
    return raise_for(object, progress.error());
}

PyObject* request_next(PyObject* object, PyObject*) { return wait_for(object, &Request::next); }

// Whoever is interrupted here never gets the rest; the exception may keep the request alive for long.
PyObject* request_finish(PyObject* object, PyObject*) {
    PyObject* progress = wait_for(object, &Request::finish);
    if (progress == nullptr) self_of(object).request->cancel();
    return progress;
}

PyObject* logprobs_tuple(const TokenLogprobs& one) {
    PyObject* top = PyTuple_New(static_cast<Py_ssize_t>(one.top.size()));
    for (std::size_t i = 0; top != nullptr && i < one.top.size(); ++i) {
        PyObject* pair = Py_BuildValue("if", static_cast<int>(one.top[i].first), one.top[i].second);
        if (pair == nullptr) {
            Py_CLEAR(top);
        } else {
            PyTuple_SET_ITEM(top, static_cast<Py_ssize_t>(i), pair);
        }
    }
    return top == nullptr ? nullptr : Py_BuildValue("fN", one.chosen, top);
}

PyObject* request_logprobs(PyObject* object, PyObject*) {
    PyObject* list = PyList_New(0);
    for (const TokenLogprobs& one : self_of(object).logprobs) {
        PyObject* item = list == nullptr ? nullptr : logprobs_tuple(one);
        if (item == nullptr || PyList_Append(list, item) < 0) Py_CLEAR(list);
        Py_XDECREF(item);
        if (list == nullptr) break;
    }
    return list;
}

// (bytes of float32, numbers of a vector).
PyObject* request_vectors(PyObject* object, PyObject*) {
    const auto* job = dynamic_cast<const EmbeddingJob*>(self_of(object).request.get());
    if (job == nullptr || !self_of(object).ended) {
        PyErr_SetString(PyExc_ValueError, "the request has no vectors");
        return nullptr;
    }
    const std::vector<float>& vectors = job->vectors();
    PyObject* bytes = PyBytes_FromStringAndSize(reinterpret_cast<const char*>(vectors.data()),
                                                static_cast<Py_ssize_t>(vectors.size() * sizeof(float)));
    return bytes == nullptr ? nullptr : Py_BuildValue("Nn", bytes, static_cast<Py_ssize_t>(job->length()));
}

PyObject* request_watch(PyObject* object, PyObject* args) {
    PyObject* port = nullptr;
    int finished = 0;
    if (PyArg_ParseTuple(args, "Op", &port, &finished) == 0) return nullptr;
    if (const Result<void> here = EngineThread::of_process().here(); !here) {
        return raise_for(object, here.error());
    }
    const ModuleState* state = state_of_type(Py_TYPE(object));
    if (state == nullptr) return nullptr;
    PortToken wait = new_port_token(*state, port);
    if (!wait.port) return nullptr;
    const auto until = finished != 0 ? Request::Until::kFinished : Request::Until::kAnything;
    switch (self_of(object).request->watch(until, std::move(wait.port), wait.token)) {
        case Request::Watch::kWaits: return PyLong_FromUnsignedLongLong(wait.token);
        case Request::Watch::kReady: Py_RETURN_NONE;
        case Request::Watch::kTaken: break;
    }
    return raise_error(*state, Request::taken());
}

PyObject* request_unwatch(PyObject* object, PyObject* args) {
    PyObject* object_of_port = nullptr;
    unsigned long long token = 0;
    if (PyArg_ParseTuple(args, "OK", &object_of_port, &token) == 0) return nullptr;
    const ModuleState* state = state_of_type(Py_TYPE(object));
    const Ref<Port> port = state == nullptr ? Ref<Port>() : port_of(*state, object_of_port);
    if (!port) return nullptr;
    self_of(object).request->unwatch(*port, token);
    Py_RETURN_NONE;
}

// As it is in texts, whoever has closed the model.
PyObject* request_piece(PyObject* object, PyObject* argument) {
    const int token = PyLong_AsInt(argument);
    if (token == -1 && PyErr_Occurred() != nullptr) return nullptr;
    std::string bytes;
    const Result<void> found =
        self_of(object).request->model().append_piece(token, ParseSpecial::kYes, bytes);
    if (!found) return raise_for(object, found.error());
    return PyBytes_FromStringAndSize(bytes.data(), static_cast<Py_ssize_t>(bytes.size()));
}

PyObject* request_cancel(PyObject* object, PyObject*) {
    give_up(*self_of(object).request);
    Py_RETURN_NONE;
}

PyObject* request_prompt_tokens(PyObject* object, void*) {
    return PyLong_FromSize_t(self_of(object).request->options().prompt.size());
}

void request_dealloc(PyObject* object) {
    RequestObject& self = self_of(object);
    PyTypeObject* type = Py_TYPE(object);
    remove_leaver(self.leaver);
    if (self.request && (!self.ended || is_pin(*self.request))) give_up(*self.request);
    self.request.~Ref();
    self.logprobs.~vector();
    type->tp_free(object);
    Py_DECREF(type);
}

PyMethodDef methods[] = {
    {"next", request_next, METH_NOARGS,
     "next()\n--\n\nWait for what has come since the last look: (text, tokens, outcome or None)."},
    {"finish", request_finish, METH_NOARGS,
     "finish()\n--\n\nWait for the end: (text, tokens, outcome) of what next() has not given out."},
    {"logprobs", request_logprobs, METH_NOARGS,
     "logprobs()\n--\n\nOf each token given out so far: (logprob, ((token, logprob) of the likeliest, "
     "...))."},
    {"vectors", request_vectors, METH_NOARGS,
     "vectors()\n--\n\nOf an embedding that has ended: (bytes of float32, numbers of one vector)."},
    {"watch", request_watch, METH_VARARGS,
     "watch(port, finished)\n--\n\nHave the port told a token, which is returned, when next(), or finish(), "
     "would "
     "not wait any more; None: they would not wait now."},
    {"unwatch", request_unwatch, METH_VARARGS,
     "unwatch(port, token)\n--\n\nHave the port told that token no more."},
    {"_piece", request_piece, METH_O, "_piece(token): its bytes."},
    {"cancel", request_cancel, METH_NOARGS, "cancel()\n--\n\nGive the request up."},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef getters[] = {
    {"prompt_tokens", request_prompt_tokens, nullptr, "Tokens of the prompt.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(request_dealloc)},
    {Py_tp_methods, methods},
    {Py_tp_getset, getters},
    {Py_tp_doc, const_cast<char*>("One generation. Made by Model.submit().")},
    {0, nullptr},
};

PyType_Spec spec = {
    .name = "syncyte._core.Request",
    .basicsize = sizeof(RequestObject),
    .itemsize = 0,
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

}  // namespace

PyObject* wrap_request(ModuleState& state, Ref<Request> request) {
    auto* type = reinterpret_cast<PyTypeObject*>(state.request_type);
    PyObject* object = type->tp_alloc(type, 0);
    if (object == nullptr) {
        give_up(*request);
        return nullptr;
    }
    new (&self_of(object).request) Ref<Request>(std::move(request));
    new (&self_of(object).logprobs) std::vector<TokenLogprobs>();
    add_leaver(state, self_of(object).leaver, leave);
    return object;
}

int register_request(PyObject* module, ModuleState& state) {
    state.request_type = PyType_FromModuleAndSpec(module, &spec, nullptr);
    if (state.request_type == nullptr) return -1;
    return PyModule_AddObjectRef(module, "Request", state.request_type);
}

}  // namespace syncyte::python
