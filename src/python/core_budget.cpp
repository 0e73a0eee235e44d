#include "python/core_budget.h"

#include <cstdint>
#include <optional>

#include "base/core_budget.h"
#include "python/model_arguments.h"

namespace syncyte::python {

namespace {

// None is nothing fixed. False with an error set when it is neither None nor `least` to 512.
bool cores_of(PyObject* object, const char* name, int least, int& cores) {
    constexpr int kMost = 512;
    std::optional<std::int32_t> value;
    if (!optional_int(object, name, value)) return false;
    cores = value.value_or(0);
    if (!value || (cores >= least && cores <= kMost)) return true;
    PyErr_Format(PyExc_ValueError, "%s must be %d to %d cores or None, not %d", name, least, kMost, cores);
    return false;
}

PyObject* set_core_budget(PyObject* /*module*/, PyObject* args) {
    PyObject* engine = nullptr;
    PyObject* agents = nullptr;
    FixedCores cores;
    if (PyArg_ParseTuple(args, "OO", &engine, &agents) == 0) return nullptr;
    if (!cores_of(engine, "engine", 1, cores.engine) || !cores_of(agents, "agents", 0, cores.agents)) {
        return nullptr;
    }
    fix_cores(cores);
    Py_RETURN_NONE;
}

PyMethodDef functions[] = {
    {"_set_core_budget", set_core_budget, METH_VARARGS, "_set_core_budget(engine, agents)"},
    {nullptr, nullptr, 0, nullptr},
};

}  // namespace

int register_core_budget(PyObject* module, ModuleState& /*state*/) {
    return PyModule_AddFunctions(module, functions);
}

}  // namespace syncyte::python
