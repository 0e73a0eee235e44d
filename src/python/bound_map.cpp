#include "python/bound_map.h"

#include <optional>
#include <utility>
#include <vector>

#include "python/attach.h"
#include "python/bound_task.h"
#include "python/convert.h"
#include "python/errors.h"
#include "python/map.h"
#include "python/wait.h"
#include "python/worker.h"

namespace syncyte::python {

namespace {

// How many results one call of take() brings at most.
constexpr std::size_t kMostResults = 256;

struct MapObject {
    PyObject_HEAD Ref<Map> map;
    Ref<Pool> pool;
    std::size_t next;  // the first result not taken yet
};

MapObject* cast(PyObject* self) { return reinterpret_cast<MapObject*>(self); }

void dealloc_map(PyObject* self) {
    PyTypeObject* type = Py_TYPE(self);
    if (cast(self)->map) cast(self)->map->stop(Error(ErrorCode::kCancelled));
    cast(self)->map.~Ref();
    cast(self)->pool.~Ref();
    type->tp_free(self);
    Py_DECREF(type);
}

// take(timeout): the next results, a list; [] after the last; a failure tuple when the next item raised.
PyObject* take(PyObject* self, PyObject* timeout) {
    MapObject* object = cast(self);
    Map& map = *object->map;
    ModuleState& state = state_of(PyType_GetModule(Py_TYPE(self)));
    Deadline deadline = Deadline::never();
    if (!parse_timeout(timeout, deadline)) return nullptr;
    if (object->next >= map.size()) return PyList_New(0);
    if (map.state(object->next) == Map::State::kOpen) {
        const std::size_t index = object->next;
        Worker* here = Worker::of_this_thread();
        if (here != nullptr && deadline == Deadline::never() && here->can_help(*object->pool)) {
            // A task that waits for others of its own pool does what nobody else has begun.
            const Ref<Job> helper = map.helper(object->pool, index);
            if (!here->help(*helper)) return nullptr;
        }
        const Result<void> waited =
            call_detached(deadline, [&](Deadline until) { return map.wait(index, until); });
        if (!waited && waited.error().code == ErrorCode::kInterrupted) return nullptr;
        if (!waited && waited.error().code == ErrorCode::kTimedOut) return raise_error(state, waited.error());
        if (!waited) {
            const bool cancelled = waited.error().code == ErrorCode::kCancelled;
            return failure_tuple(state, {.ending = cancelled ? Ending::kCancelled : Ending::kBroken,
                                         .value = {},
                                         .failure = {},
                                         .message = waited.error().message});
        }
    }
    if (map.state(object->next) == Map::State::kFailed)
        return failure_tuple(state, map.failure(object->next++));
    PyObject* results = PyList_New(0);
    const std::size_t end = std::min(map.size(), object->next + kMostResults);
    while (results != nullptr && object->next < end && map.state(object->next) == Map::State::kReturned) {
        const Value value = map.take(object->next++);
        PyObject* result = from_value(state, value);
        if (result == nullptr || PyList_Append(results, result) < 0) Py_CLEAR(results);
        Py_XDECREF(result);
    }
    return results;
}

PyObject* stop(PyObject* self, PyObject*) {
    cast(self)->map->stop(Error(ErrorCode::kCancelled));
    Py_RETURN_NONE;
}

PyObject* get_cost(PyObject* self, void*) { return PyFloat_FromDouble(cast(self)->map->cost()); }

PyMethodDef map_methods[] = {
    {"take", take, METH_O, "take(timeout): the next results; [] after the last; a failure tuple."},
    {"stop", stop, METH_NOARGS, "What no worker has begun is never run."},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef map_members[] = {
    {"cost", get_cost, nullptr, "Seconds that one item took lately; 0 before any is over.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyType_Slot map_slots[] = {
    {Py_tp_doc, const_cast<char*>("A map in progress.")},
    {Py_tp_dealloc, reinterpret_cast<void*>(dealloc_map)},
    {Py_tp_methods, map_methods},
    {Py_tp_getset, map_members},
    {0, nullptr},
};

PyType_Spec map_spec = {
    .name = "syncyte._core.Map",
    .basicsize = sizeof(MapObject),
    .itemsize = 0,
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = map_slots,
};

}  // namespace

PyObject* start_map(ModuleState& state, const Ref<Pool>& pool, PyObject* function, PyObject* items,
                    std::size_t chunk, std::size_t most, JobQueue::Room room) {
    const Ref<Function>* code = function_of(state, function);
    if (code == nullptr) return nullptr;
    std::vector<Value> values;
    values.reserve(static_cast<std::size_t>(PyList_GET_SIZE(items)));
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items); ++i) {
        std::optional<Value> value = to_value(state, PyList_GET_ITEM(items, i));
        if (!value) return nullptr;
        values.push_back(std::move(*value));
    }
    auto map = make_ref<Map>(*code, std::move(values), chunk, pool->size());
    const auto start = [&](Deadline until) { return map->start(pool, most, until, room); };
    Result<void> started = start(Deadline::now());
    if (!started && started.error().code == ErrorCode::kTimedOut) {
        started = call_detached(Deadline::never(), start);
    }
    if (!started && started.error().code == ErrorCode::kInterrupted) return nullptr;
    if (!started) return raise_error(state, started.error());
    auto* type = reinterpret_cast<PyTypeObject*>(state.map_type);
    PyObject* self = type->tp_alloc(type, 0);
    if (self == nullptr) return nullptr;
    new (&cast(self)->map) Ref<Map>(std::move(map));
    new (&cast(self)->pool) Ref<Pool>(pool);
    return self;
}

int register_map(PyObject* module, ModuleState& state) {
    state.map_type = PyType_FromModuleAndSpec(module, &map_spec, nullptr);
    if (state.map_type == nullptr) return -1;
    return PyModule_AddObjectRef(module, "Map", state.map_type);
}

}  // namespace syncyte::python
