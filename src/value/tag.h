// The flat encoding of a message: one item after the other, each a tag byte and what the tag calls for, in
// the machine's own byte order and without padding. It never leaves the process.
//
//   kNone kFalse kTrue       nothing
//   kInt8 kInt64             the number
//   kBigInt                  u64 size, then two's complement, least byte first
//   kFloat kComplex          one or two doubles, bit for bit
//   kShortAscii              u8 length, characters
//   kStr                     u8 width of a character (0: ASCII, 1: Latin-1, 2, 4), u64 length, characters
//   kBytes kByteArray        u64 size, bytes
//   kTuple kList kSet kFrozenSet   u64 count, items
//   kDict                    u64 count, then key and value in turn
//   kIntList kIntTuple       u8 width (1, 2, 4, 8), u64 count, signed numbers of that width
//   kFloatList kFloatTuple   u64 count, doubles
//   kHandle                  u32 index in the value's handles
//   kPickled                 u32 index among the objects of the value's one pickle
//   kRepeat                  u64 offset of an item met before, whose tag carries kRepeated: the same object
//   again
#pragma once

#include <cstdint>

namespace syncyte {

enum class Tag : std::uint8_t {
    kNone,
    kFalse,
    kTrue,
    kInt8,
    kInt64,
    kBigInt,
    kFloat,
    kComplex,
    kShortAscii,
    kStr,
    kBytes,
    kByteArray,
    kTuple,
    kList,
    kSet,
    kFrozenSet,
    kDict,
    kIntList,
    kIntTuple,
    kFloatList,
    kFloatTuple,
    kHandle,
    kPickled,
    kRepeat,
    kCount,
};

// Set in the tag byte of an item that a later kRepeat names.
inline constexpr std::uint8_t kRepeated = 0x80;

// Containers may nest this deep. Encoding and decoding recurse, about 400 bytes of stack a level.
inline constexpr int kMaxDepth = 1000;

}  // namespace syncyte
