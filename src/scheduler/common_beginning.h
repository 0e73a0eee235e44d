// How far two texts agree.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

#include "engine/model.h"

namespace syncyte {

// How many first tokens both have.
inline std::size_t common_beginning(std::span<const Token> a, std::span<const Token> b) {
    return static_cast<std::size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

}  // namespace syncyte
