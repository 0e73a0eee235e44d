// Broken invariants end the process with a message: going on would corrupt somebody else's interpreter.
#pragma once

#include <source_location>

namespace syncyte {

// Prints file, line and `message` to standard error, then aborts.
[[noreturn]] void check_failed(const char* message, const std::source_location& where);

inline void check(bool holds, const char* message,
                  const std::source_location& where = std::source_location::current()) {
    if (!holds) [[unlikely]]
        check_failed(message, where);
}

}  // namespace syncyte
