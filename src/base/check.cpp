#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace syncyte {

void check_failed(const char* message, const std::source_location& where) {
    std::fprintf(stderr, "syncyte: broken invariant: %s (%s:%u, %s)\n", message, where.file_name(),
                 static_cast<unsigned>(where.line()), where.function_name());
    std::abort();
}

}  // namespace syncyte
