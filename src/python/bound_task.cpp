#include "python/bound_task.h"

#include <optional>
#include <utility>

#include "python/attach.h"
#include "python/bound_pool.h"
#include "python/bound_reference.h"
#include "python/convert.h"
#include "python/errors.h"
#include "python/supervisor.h"
#include "python/wait.h"
#include "python/worker.h"

namespace syncyte::python {

namespace {

struct TaskObject {
    PyObject_HEAD Ref<Task> task;
    Ref<Pool> pool;
    Ref<Handle> reference;  // as which it travels; null before it does
    PyObject* value;        // the decoded result, once somebody asked
};

struct FunctionObject {
    PyObject_HEAD Ref<Function> function;
};

TaskObject* cast(PyObject* self) { return reinterpret_cast<TaskObject*>(self); }

int traverse_task(PyObject* self, visitproc visit, void* arg) {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(cast(self)->value);
    return 0;
}

int clear_task(PyObject* self) {
    Py_CLEAR(cast(self)->value);
    return 0;
}

void dealloc_task(PyObject* self) {
    PyTypeObject* type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    clear_task(self);
    cast(self)->task->add_future(-1);
    cast(self)->task.~Ref();
    cast(self)->pool.~Ref();
    cast(self)->reference.~Ref();
    type->tp_free(self);
    Py_DECREF(type);
}

void dealloc_function(PyObject* self) {
    PyTypeObject* type = Py_TYPE(self);
    reinterpret_cast<FunctionObject*>(self)->function.~Ref();
    type->tp_free(self);
    Py_DECREF(type);
}

PyObject* new_function(PyTypeObject* type, PyObject* args, PyObject* kwargs) {
    static const char* const names[] = {"data", "keep", nullptr};
    const char* data = nullptr;
    Py_ssize_t size = 0;
    int keep = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y#p:Function", const_cast<char**>(names), &data, &size,
                                     &keep)) {
        return nullptr;
    }
    PyObject* self = type->tp_alloc(type, 0);
    if (self == nullptr) return nullptr;
    new (&reinterpret_cast<FunctionObject*>(self)->function)
        Ref<Function>(make_ref<Function>(std::string(data, static_cast<std::size_t>(size)), keep != 0));
    return self;
}

// A task waits for another worker's part of a broadcast. That worker may wait in turn for this one's part of
// another broadcast: what is for this worker alone is done meanwhile. False with a Python error set.
bool serve_place(Worker& here, Task& task, Pool& pool) {
    constexpr double kLookSeconds = 0.01;
    const int place = here.desk().worker();
    while (!task.finished()) {
        if (Ref<Job> own = pool.try_take_own(place)) {
            if (!here.help(*own)) return false;
            continue;
        }
        const Result<void> waited =
            call_detached(Deadline::after(kLookSeconds), [&](Deadline until) { return task.wait(until); });
        if (!waited && waited.error().code == ErrorCode::kInterrupted) return false;
    }
    return true;
}

// A task that waits for one of its own pool that nobody has begun: runs it right here. False with a Python
// error set when the waiting task was interrupted meanwhile.
bool help(Task& task, Pool& pool) {
    Worker* here = Worker::of_this_thread();
    if (here == nullptr || task.running() || !here->can_help(pool)) return true;
    if (task.place() >= 0 && task.place() != here->desk().worker()) return serve_place(*here, task, pool);
    const bool go_on = here->help(task);
    pool.withdraw(task);
    return go_on;
}

// Waits for the end; false with a Python error set (TimeoutError, or what a signal handler raised).
bool await(const TaskObject& object, Deadline deadline) {
    Task& task = *object.task;
    if (task.finished()) return true;
    if (object.pool->foreign()) return refuse_foreign();
    if (deadline == Deadline::never() && !help(task, *object.pool)) return false;
    const Result<void> waited = call_detached(deadline, [&](Deadline until) { return task.wait(until); });
    if (waited) return true;
    if (waited.error().code == ErrorCode::kTimedOut) PyErr_SetNone(PyExc_TimeoutError);
    return false;
}

// result(timeout=None): the call's result; the task itself when it did not return (see failure()).
PyObject* result(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    TaskObject* object = cast(self);
    if (object->value != nullptr) return Py_NewRef(object->value);
    Deadline deadline = Deadline::never();
    if (!parse_timeout(count > 0 ? args[0] : nullptr, deadline) || !await(*object, deadline)) return nullptr;
    const TaskOutcome& outcome = object->task->outcome();
    if (outcome.ending != Ending::kReturned) return Py_NewRef(self);
    PyObject* value = from_value(state_of(PyType_GetModule(Py_TYPE(self))), outcome.value);
    // Another thread may have been faster while unpickling ran: everybody gets the same object.
    if (value != nullptr && object->value == nullptr) object->value = Py_NewRef(value);
    return value;
}

PyObject* wait(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    Deadline deadline = Deadline::never();
    if (!parse_timeout(count > 0 ? args[0] : nullptr, deadline) || !await(*cast(self), deadline))
        return nullptr;
    Py_RETURN_NONE;
}

// failure(): (how it ended, exception or None, its description or None, message), once finished.
PyObject* failure(PyObject* self, PyObject*) {
    const Task& task = *cast(self)->task;
    if (!task.finished()) Py_RETURN_NONE;
    return failure_tuple(state_of(PyType_GetModule(Py_TYPE(self))), task.outcome());
}

// cancel(): ends it whether it waits or runs; false when it is over.
PyObject* cancel(PyObject* self, PyObject*) {
    const Ref<Task>& task = cast(self)->task;
    const Ref<Pool>& pool = cast(self)->pool;
    if (pool->foreign() && !refuse_foreign()) return nullptr;
    if (task->cancel()) Py_RETURN_TRUE;
    if (!task->finish({.ending = Ending::kCancelled, .value = {}, .failure = {}, .message = {}}))
        Py_RETURN_FALSE;
    pool->supervisor()->interrupt(task, pool);
    Py_RETURN_TRUE;
}

// travelling(): what stands for the task in a message.
PyObject* travelling_task(PyObject* self, PyObject*) {
    TaskObject* object = cast(self);
    object->task->show();
    if (!object->reference) object->reference = make_ref<TaskReference>(object->task, object->pool);
    return travelling(state_of(PyType_GetModule(Py_TYPE(self))), object->reference);
}

PyObject* done(PyObject* self, PyObject*) { return PyBool_FromLong(cast(self)->task->finished()); }
PyObject* running(PyObject* self, PyObject*) { return PyBool_FromLong(cast(self)->task->running()); }

PyObject* get_ending(PyObject* self, void*) {
    const Task& task = *cast(self)->task;
    if (!task.finished()) Py_RETURN_NONE;
    return PyLong_FromLong(static_cast<long>(task.outcome().ending));
}
PyObject* get_id(PyObject* self, void*) { return PyLong_FromUnsignedLongLong(cast(self)->task->id()); }
PyObject* get_worker(PyObject* self, void*) {
    const int worker = cast(self)->task->worker();
    if (worker < 0) Py_RETURN_NONE;
    return PyLong_FromLong(worker);
}
PyObject* get_interpreter(PyObject* self, void*) {
    const std::int64_t interpreter = cast(self)->task->interpreter();
    if (interpreter < 0) Py_RETURN_NONE;
    return PyLong_FromLongLong(interpreter);
}

template <class F>
PyCFunction method(F function) {
    return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

}  // namespace

PyObject* failure_tuple(ModuleState& state, const TaskOutcome& outcome) {
    PyObject* display = from_value(state, outcome.failure.display);
    if (display == nullptr) return nullptr;
    PyObject* exception = from_value(state, outcome.failure.exception);
    std::string message = outcome.message;
    if (exception == nullptr) {
        // It could be pickled over there but not unpickled here: its description has to do.
        PyObject* error = PyErr_GetRaisedException();
        message = std::string("the exception cannot be rebuilt here: ") + Py_TYPE(error)->tp_name;
        Py_DECREF(error);
        exception = Py_NewRef(Py_None);
    }
    return Py_BuildValue("(iNNs#)", static_cast<int>(outcome.ending), exception, display, message.data(),
                         static_cast<Py_ssize_t>(message.size()));
}

PyObject* wrap_task(const ModuleState& state, Ref<Task> task, Ref<Pool> pool, Ref<Handle> reference) {
    auto* type = reinterpret_cast<PyTypeObject*>(state.task_type);
    PyObject* self = type->tp_alloc(type, 0);
    if (self == nullptr) return nullptr;
    task->add_future(1);
    new (&cast(self)->task) Ref<Task>(std::move(task));
    new (&cast(self)->pool) Ref<Pool>(std::move(pool));
    new (&cast(self)->reference) Ref<Handle>(std::move(reference));
    return self;
}

const Ref<Task>* task_of(const ModuleState& state, PyObject* object) {
    if (Py_IS_TYPE(object, reinterpret_cast<PyTypeObject*>(state.task_type))) return &cast(object)->task;
    PyErr_Format(PyExc_TypeError, "expected a _core.Task, not %T", object);
    return nullptr;
}

const Ref<Function>* function_of(const ModuleState& state, PyObject* object) {
    if (Py_IS_TYPE(object, reinterpret_cast<PyTypeObject*>(state.function_type))) {
        return &reinterpret_cast<FunctionObject*>(object)->function;
    }
    PyErr_Format(PyExc_TypeError, "expected a _core.Function, not %T", object);
    return nullptr;
}

int register_task(PyObject* module, ModuleState& state) {
    static PyMethodDef task_methods[] = {
        {"result", method(result), METH_FASTCALL,
         "result(timeout=None): the result, or the task if there is none."},
        {"wait", method(wait), METH_FASTCALL, "wait(timeout=None): until finished; TimeoutError."},
        {"failure", failure, METH_NOARGS, "(ending, exception, description, message), once finished."},
        {"cancel", cancel, METH_NOARGS, "End the task, interrupting it if it runs; False when it is over."},
        {"travelling", travelling_task, METH_NOARGS, "What stands for the task in a message."},
        {"done", done, METH_NOARGS, nullptr},
        {"running", running, METH_NOARGS, nullptr},
        {nullptr, nullptr, 0, nullptr},
    };
    static PyGetSetDef task_members[] = {
        {"ending", get_ending, nullptr, "How it ended; None before.", nullptr},
        {"id", get_id, nullptr, nullptr, nullptr},
        {"worker", get_worker, nullptr, "Index of the worker that ran it.", nullptr},
        {"interpreter", get_interpreter, nullptr, "Id of the interpreter that ran it.", nullptr},
        {nullptr, nullptr, nullptr, nullptr, nullptr},
    };
    static PyType_Slot task_slots[] = {
        {Py_tp_doc, const_cast<char*>("One call on its way through a pool.")},
        {Py_tp_dealloc, reinterpret_cast<void*>(dealloc_task)},
        {Py_tp_traverse, reinterpret_cast<void*>(traverse_task)},
        {Py_tp_clear, reinterpret_cast<void*>(clear_task)},
        {Py_tp_methods, task_methods},
        {Py_tp_getset, task_members},
        {0, nullptr},
    };
    static PyType_Spec task_spec = {
        .name = "syncyte._core.Task",
        .basicsize = sizeof(TaskObject),
        .itemsize = 0,
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
                 Py_TPFLAGS_IMMUTABLETYPE,
        .slots = task_slots,
    };
    static PyType_Slot function_slots[] = {
        {Py_tp_doc, const_cast<char*>("Function(data, keep): a callable as syncyte._travel dumped it.")},
        {Py_tp_new, reinterpret_cast<void*>(new_function)},
        {Py_tp_dealloc, reinterpret_cast<void*>(dealloc_function)},
        {0, nullptr},
    };
    static PyType_Spec function_spec = {
        .name = "syncyte._core.Function",
        .basicsize = sizeof(FunctionObject),
        .itemsize = 0,
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
        .slots = function_slots,
    };
    state.task_type = PyType_FromModuleAndSpec(module, &task_spec, nullptr);
    if (state.task_type == nullptr || PyModule_AddObjectRef(module, "Task", state.task_type) < 0) return -1;
    state.function_type = PyType_FromModuleAndSpec(module, &function_spec, nullptr);
    if (state.function_type == nullptr) return -1;
    return PyModule_AddObjectRef(module, "Function", state.function_type);
}

}  // namespace syncyte::python
