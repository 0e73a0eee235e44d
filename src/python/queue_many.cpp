// Many messages at a time.
#include <string>

#include "python/errors.h"
#include "python/queue.h"
#include "python/reference.h"
#include "python/transfer.h"

namespace syncyte::python {

bool to_values(ModuleState& state, PyObject* items, Pickling pickling, std::vector<Value>& values) {
    const Reference iterator = Reference::adopt(PyObject_GetIter(items));
    if (!iterator) return false;
    while (const Reference item = Reference::adopt(PyIter_Next(iterator.get()))) {
        std::optional<Value> value = to_value(state, item.get(), pickling);
        if (!value) {
            add_note("while converting item " + std::to_string(values.size()) + " of items");
            return false;
        }
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

Transfer get_values(Values& channel, std::vector<Value>& values, std::vector<std::uint64_t>& places,
                    std::size_t most, Deadline deadline) {
    if (channel.try_get_many(values, most, &places) > 0) return Transfer::kDone;
    Value first;
    std::uint64_t place = 0;
    const Transfer one = get_value(channel, first, place, deadline);
    if (one != Transfer::kDone) return one;
    values.push_back(std::move(first));
    places.push_back(place);
    channel.try_get_many(values, most - 1, &places);
    return Transfer::kDone;
}

PyObject* received_list(ModuleState& state, Values& channel, std::vector<Value>& values,
                        const std::vector<std::uint64_t>& places) {
    const auto count = static_cast<Py_ssize_t>(values.size());
    Reference list = Reference::adopt(PyList_New(count));
    for (Py_ssize_t i = 0; i < count; ++i) {
        const auto at = static_cast<std::size_t>(i);
        PyObject* item = list ? received(state, channel, values[at], places[at]) : nullptr;
        if (item != nullptr) {
            PyList_SET_ITEM(list.get(), i, item);
            continue;
        }
        for (std::size_t other = values.size(); other-- > 0;) {
            if (other != at || !list) channel.give_back(std::move(values[other]), places[other]);
        }
        return nullptr;
    }
    return list.leak();
}

}  // namespace syncyte::python
