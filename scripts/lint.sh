#!/usr/bin/env bash
# Style and static checks; sourced by ./dev. Prints what it finds and returns 1 on the first kind that fails.

# The project's files; git does not mind here whose checkout it is.
files() { git -c safe.directory="$PWD" ls-files "$@"; }
cpp_files() { files 'src/**/*.cpp' 'src/**/*.h' 'tests/unit/**/*.cpp' 'tests/unit/**/*.h' 'tests/stress/**/*.cpp'; }
python_folders() { local d; for d in python tests benchmarks models examples; do [ -n "$(files "$d/*.py")" ] && echo "$d"; done; }

# clang-tidy reads GCC's compile commands; what only GCC knows is left out. Each translation unit's result
# is remembered by the hash of its preprocessed text, so that an unchanged one is not read again.
run_clang_tidy() {
    local database=build/dev/compile_commands.json cache=build/tidy-cache
    mkdir -p "$cache"
    files 'src/**/*.cpp' |
        xargs -P "$(nproc)" -I {} bash scripts/tidy_one.sh {} "$database" "$cache"
}

lint() {
    local failed=0
    say "clang-format"
    cpp_files | xargs clang-format --dry-run --Werror || failed=1
    say "clang-tidy"
    run_clang_tidy || failed=1
    say "ruff"
    # shellcheck disable=SC2046
    ruff check --quiet $(python_folders) && ruff format --check --quiet $(python_folders) || failed=1
    say "mypy --strict"
    mypy || failed=1
    return "$failed"
}

format() {
    cpp_files | xargs clang-format -i
    # shellcheck disable=SC2046
    ruff check --quiet --fix $(python_folders) || true
    # shellcheck disable=SC2046
    ruff format --quiet $(python_folders)
}
