#include "python/select.h"

#include <array>
#include <vector>

#include "channel/select.h"
#include "python/arguments.h"
#include "python/channel_ends.h"
#include "python/queue.h"
#include "python/reference.h"
#include "python/transfer.h"
#include "python/wait.h"

namespace syncyte::python {

namespace {

// What is selected from, kept alive while that lasts.
struct Sources {
    std::vector<Values*> channels;
    std::vector<PyObject*> objects;  // borrowed from the caller's sequence; those of `channels`, in order
    std::vector<Ref<Handle>> kept;

    void drop(std::size_t index) {
        channels.erase(channels.begin() + static_cast<std::ptrdiff_t>(index));
        objects.erase(objects.begin() + static_cast<std::ptrdiff_t>(index));
    }
};

bool add_source(const ModuleState& state, PyObject* object, Sources& sources) {
    QueueCore* queue = queue_core_of(state, object);
    if (queue == nullptr) {
        EndCore* end = end_core_of(state, object);
        if (end == nullptr || end->kind() != HandleKind::kReceiver) {
            PyErr_Format(PyExc_TypeError, "select() takes queues and receivers, not %R", object);
            return false;
        }
        if (end->line() == nullptr) return true;  // closed: passed over
        sources.kept.push_back(Ref<Handle>::share(end));
        queue = end->line();
    } else {
        sources.kept.push_back(Ref<Handle>::share(queue));
    }
    sources.channels.push_back(&queue->values());
    sources.objects.push_back(object);
    return true;
}

// One wait. nullptr without an error set: a source was closed, and dropped.
PyObject* select_once(ModuleState& state, Sources& sources, Deadline deadline) {
    Selection<Value> selection(sources.channels);
    const Wake wake = selection.begin() ? Wake::kUnparked : wait_detached(selection.handoff(), deadline);
    const auto [index, waiter] = selection.end();
    if (waiter == nullptr) {
        if (wake == Wake::kTimedOut) PyErr_SetString(PyExc_TimeoutError, "nothing arrived in time");
        return nullptr;
    }
    if (wake == Wake::kInterrupted) {
        sources.channels[index]->give_back(*waiter);
        return nullptr;
    }
    if (waiter->outcome == Outcome::kClosed) {
        sources.drop(index);
        return nullptr;
    }
    const Reference item =
        Reference::adopt(received(state, *sources.channels[index], *waiter->item, waiter->order));
    return item ? PyTuple_Pack(2, sources.objects[index], item.get()) : nullptr;
}

PyObject* select(PyObject* module, PyObject* const* args, Py_ssize_t count, PyObject* keywords) {
    static constexpr std::array<const char*, 2> kNames{"sources", "timeout"};
    std::array<PyObject*, 2> slots;
    if (!sort_arguments("select", kNames, 1, args, count, keywords, slots)) return nullptr;
    const auto deadline = deadline_of(nullptr, slots[1]);
    if (!deadline) return nullptr;
    ModuleState& state = state_of(module);
    // A tuple of our own: the caller's list may change while we wait.
    const Reference given = Reference::adopt(PySequence_Tuple(slots[0]));
    if (!given) return nullptr;
    Sources sources;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(given.get()); ++i) {
        if (!add_source(state, PyTuple_GET_ITEM(given.get(), i), sources)) return nullptr;
    }
    if (PyTuple_GET_SIZE(given.get()) == 0) {
        PyErr_SetString(PyExc_ValueError, "select() needs at least one queue or receiver");
        return nullptr;
    }
    while (!sources.channels.empty()) {
        PyObject* result = select_once(state, sources, *deadline);
        if (result != nullptr || PyErr_Occurred() != nullptr) return result;
    }
    return raise_channel_closed(state, "every source is closed and empty");
}

PyMethodDef functions[] = {
    {"select", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(select)),
     METH_FASTCALL | METH_KEYWORDS,
     "select(sources, timeout=None)\n--\n\n"
     "Gets one item from whichever of sources, queues and receivers, has one first: (source, item).\n\n"
     "Several that have one are preferred in the order given. Sources that are closed and empty are passed "
     "over;\n"
     "ChannelClosed when all are. Waits at most timeout seconds, then raises TimeoutError."},
    {},
};

}  // namespace

int register_select(PyObject* module, ModuleState& /*state*/) {
    return PyModule_AddFunctions(module, functions);
}

}  // namespace syncyte::python
