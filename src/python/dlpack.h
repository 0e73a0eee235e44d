// DLPack's memory layout, version 1.0 and the one before it, as its specification fixes it.
#pragma once

#include <cstdint>

namespace syncyte::python::dlpack {

struct Device {
    std::int32_t type;
    std::int32_t id;
};
inline constexpr std::int32_t kCpu = 1;

struct DataType {
    std::uint8_t code;
    std::uint8_t bits;
    std::uint16_t lanes;
};

struct Tensor {
    void* data;
    Device device;
    std::int32_t dimensions;
    DataType type;
    std::int64_t* shape;
    std::int64_t* strides;  // in elements
    std::uint64_t byte_offset;
};

struct Managed {
    Tensor tensor;
    void* context;
    void (*deleter)(Managed* self);
};

struct Version {
    std::uint32_t major;
    std::uint32_t minor;
};

struct ManagedVersioned {
    Version version;
    void* context;
    void (*deleter)(ManagedVersioned* self);
    std::uint64_t flags;
    Tensor tensor;
};
inline constexpr std::uint64_t kReadOnly = 1;

}  // namespace syncyte::python::dlpack
