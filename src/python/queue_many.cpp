// Many messages at a time.
#include "python/queue.h"
#include "python/reference.h"
#include "python/transfer.h"

namespace syncyte::python {

bool to_values(ModuleState& state, PyObject* items, Pickling pickling, std::vector<Value>& values) {
    const Reference iterator = Reference::adopt(PyObject_GetIter(items));
    if (!iterator) return false;
    while (const Reference item = Reference::adopt(PyIter_Next(iterator.get()))) {
        std::optional<Value> value = to_value(state, item.get(), pickling);
        if (!value) return false;
        values.push_back(std::move(*value));
    }
    return PyErr_Occurred() == nullptr;
}

Transfer put_values(Values& channel, std::vector<Value>& values, Deadline deadline, std::size_t& count) {
    count = 0;
    while (true) {
        const auto put = channel.try_put_many(std::span(values).subspan(count));
        if (!put) return Transfer::kClosed;
        count += *put;
        if (count == values.size()) return Transfer::kDone;
        const Transfer one = put_value(channel, values[count], deadline);
        if (one != Transfer::kDone) return one;
        ++count;
    }
}

Transfer get_values(Values& channel, std::vector<Value>& values, std::size_t most, Deadline deadline) {
    if (channel.try_get_many(values, most) > 0) return Transfer::kDone;
    Value first;
    const Transfer one = get_value(channel, first, deadline);
    if (one != Transfer::kDone) return one;
    values.push_back(std::move(first));
    channel.try_get_many(values, most - 1);
    return Transfer::kDone;
}

PyObject* received_list(ModuleState& state, const std::vector<Value>& values) {
    Reference list = Reference::adopt(PyList_New(static_cast<Py_ssize_t>(values.size())));
    if (!list) return nullptr;
    for (std::size_t i = 0; i < values.size(); ++i) {
        PyObject* item = from_value(state, values[i]);
        if (item == nullptr) return nullptr;
        PyList_SET_ITEM(list.get(), static_cast<Py_ssize_t>(i), item);
    }
    return list.leak();
}

}  // namespace syncyte::python
