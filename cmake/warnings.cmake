add_library(syncyte_warnings INTERFACE)
target_compile_options(
    syncyte_warnings
    INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wnon-virtual-dtor -Woverloaded-virtual
              -Wimplicit-fallthrough -Werror)
