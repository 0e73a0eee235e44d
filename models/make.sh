#!/usr/bin/env bash
# Trains the embedded model anew, exports it, and sets it beside the shipped one: the body of ./dev model.
# Needs the packages of setup_packages build train, and the package built into .venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

out=build/model
mkdir -p "$out"
OMP_WAIT_POLICY=passive /usr/bin/python3 models/train.py --out "$out" "$@"
/usr/bin/python3 models/export.py --from "$out" --to "$out/syncyte-demo-q8_0.gguf"
.venv/bin/python models/evaluate.py "$out/syncyte-demo-q8_0.gguf" \
    --beside python/syncyte/models/syncyte-demo-q8_0.gguf --json "$out/figures.json"
