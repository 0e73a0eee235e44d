// An owning pointer to a Python object, for code attached to the interpreter the object belongs to.
#pragma once

#include <Python.h>

#include <utility>

namespace syncyte::python {

// Never stored in anything that outlives the call or crosses interpreters.
class Reference {
  public:
    Reference() noexcept = default;
    static Reference adopt(PyObject* object) noexcept {
        Reference reference;
        reference.object_ = object;
        return reference;
    }
    static Reference share(PyObject* object) noexcept { return adopt(Py_XNewRef(object)); }

    Reference(const Reference&) = delete;
    Reference(Reference&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
    Reference& operator=(Reference&& other) noexcept {
        std::swap(object_, other.object_);
        return *this;
    }
    Reference& operator=(const Reference&) = delete;
    ~Reference() { Py_XDECREF(object_); }

    [[nodiscard]] PyObject* get() const noexcept { return object_; }
    explicit operator bool() const noexcept { return object_ != nullptr; }
    // Hands the reference to the caller.
    [[nodiscard]] PyObject* leak() noexcept { return std::exchange(object_, nullptr); }

  private:
    PyObject* object_ = nullptr;
};

}  // namespace syncyte::python
