// What the elements of an array are: one table for Python's buffer protocol, for DLPack and for names.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace syncyte {

struct ElementType {
    const char* name;    // as numpy spells it
    const char* format;  // as the struct module spells it
    std::uint8_t size;   // bytes
    std::uint8_t dlpack_code;
};

// The first is the default: plain bytes.
inline constexpr ElementType kElementTypes[] = {
    {"uint8", "B", 1, 1},   {"int8", "b", 1, 0},    {"uint16", "H", 2, 1},  {"int16", "h", 2, 0},
    {"uint32", "I", 4, 1},  {"int32", "i", 4, 0},   {"uint64", "L", 8, 1},  {"int64", "l", 8, 0},
    {"float16", "e", 2, 2}, {"float32", "f", 4, 2}, {"float64", "d", 8, 2}, {"bool", "?", 1, 6},
};

// By either spelling; nullptr when there is none such.
inline const ElementType* find_element_type(std::string_view text) {
    for (const ElementType& type : kElementTypes) {
        if (text == type.name || text == type.format) return &type;
    }
    // 64-bit integers have two letters in the struct module where long is 8 bytes.
    if (text == "Q") return find_element_type("L");
    if (text == "q") return find_element_type("l");
    return nullptr;
}

}  // namespace syncyte
