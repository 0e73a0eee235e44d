#!/usr/bin/env bash
# usage: tidy_one.sh FILE COMPILE_COMMANDS CACHE
# clang-tidy over one translation unit, skipped when its preprocessed text and the checks were clean before.
set -uo pipefail
file=$1 database=$2 cache=$3
command=$(python3 - "$file" "$database" <<'PY'
import json, pathlib, shlex, sys
wanted = str(pathlib.Path(sys.argv[1]).resolve())
for entry in json.load(open(sys.argv[2])):
    if str(pathlib.Path(entry["file"]).resolve()) == wanted:
        words = shlex.split(entry["command"])
        print(shlex.join(words[: words.index("-o")] + ["-E", "-P", wanted]))
        break
PY
)
[ -n "$command" ] || { echo "$file: not in $database" >&2; exit 1; }
key=$( (eval "$command" 2>/dev/null; cat .clang-tidy; clang-tidy --version) | sha256sum | cut -d ' ' -f 1)
[ -e "$cache/$key" ] && exit 0
output=$(clang-tidy --quiet -p "$(dirname "$database")" --extra-arg=-Wno-unknown-warning-option "$file" 2>/dev/null)
status=$?
if [ $status = 0 ]; then touch "$cache/$key"; else printf '%s\n' "$output"; fi
exit $status
