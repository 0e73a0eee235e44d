#!/usr/bin/env bash
# The whole test run; sourced by ./dev. Every part runs even when an earlier one failed, and the closing
# lines count them together.

declare -i tests_passed=0 tests_failed=0 tests_skipped=0
failed_parts=""

# usage: run_ctest PRESET
run_ctest() {
    local preset=$1 report="build/$1-tests.xml"
    say "C++ unit tests ($preset)"
    ctest --preset "$preset" --output-on-failure --output-junit "$PWD/$report" -j "$(nproc)" \
        >"build/$preset-tests.log" 2>&1 || { failed_parts+=" ctest-$preset"; grep -vE ' Passed |^ +Start ' "build/$preset-tests.log"; }
    count_junit "$report"
}

run_pytest() {
    say "Python tests"
    local report=build/pytest.xml
    rm -f "$report"
    .venv/bin/python -m pytest -q --junit-xml "$report" "$@" || failed_parts+=" pytest"
    count_junit "$report"
}

# The Python tests of what is C++, with the module under AddressSanitizer and UndefinedBehaviorSanitizer. CPython
# itself is as it always is: what the module's own code does is seen, on objects that come from malloc. The
# module stands in a package of its own, of links to the sources.
run_asan_py() {
    say "Python tests (asan-py)"
    local source package=$PWD/build/asan-py/package report=build/asan-py-tests.xml libraries
    for source in python/syncyte/*; do
        case "$source" in */_core*.so | */__pycache__) ;; *) ln -sfn "$PWD/$source" "$package/syncyte/" ;; esac
    done
    # Their order matters: the sanitizer looks for what throws exceptions when it starts.
    libraries="$(gcc-16 -print-file-name=libasan.so) $(gcc-16 -print-file-name=libstdc++.so.6)"
    local files=(tests/python/test_{buffer,channel_ends,convert,handles,model,model_async,model_interpreters,model_streams}.py
        tests/python/test_{model_scheduling,sampling,session,inference_pool,pool,pool_nested,pool_recycle}.py
        tests/python/test_{on_main,queue,queue_async,shared,stdlib_queue}.py)
    [ $# -gt 0 ] && files=("$@")
    rm -f "$report"
    LD_PRELOAD=$libraries PYTHONPATH=$package PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 \
        .venv/bin/python -m pytest -q -p no:cacheprovider -m "not memory" --junit-xml "$report" "${files[@]}" ||
        failed_parts+=" asan-py"
    count_junit "$report"
}

# Adds the counts of a JUnit file to the totals; a run that left none counts as a failure.
count_junit() {
    if [ ! -f "$1" ]; then tests_failed+=1; return; fi
    local counts
    counts=$(python3 - "$1" <<'PY'
import sys, xml.etree.ElementTree as tree
root = tree.parse(sys.argv[1]).getroot()
suites = [root] if root.tag == "testsuite" else root.findall("testsuite")
total = failed = skipped = 0
for suite in suites:
    total += int(suite.get("tests", 0))
    failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    skipped += int(suite.get("skipped", 0)) + int(suite.get("disabled", 0))
print(total - failed - skipped, failed, skipped)
PY
)
    local passed failed skipped
    read -r passed failed skipped <<<"$counts"
    tests_passed+=$passed tests_failed+=$failed tests_skipped+=$skipped
}

close_tests() {
    if [ -n "$failed_parts" ]; then
        [ "$tests_failed" -gt 0 ] || tests_failed=1
        printf 'failed:%s\n' "$failed_parts"
    fi
    printf '%d passed, %d failed, %d skipped\n' "$tests_passed" "$tests_failed" "$tests_skipped"
    [ "$tests_failed" = 0 ]
}
