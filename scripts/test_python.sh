#!/usr/bin/env bash
# The Python package in a fresh virtual environment: README's example, then tests/python, those beside transformers with
# the packages of .venv-reference, which stays as it is.
set -uo pipefail
cd "$(dirname "$0")/.."
fresh=${BUILD_PYTHON:-build-python}/venv
passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
check() {
  if "${@:2}" >"$log" 2>&1; then echo "ok   $1"; passed=$((passed + 1))
  else echo "FAIL $1"; cat "$log"; failed=$((failed + 1)); fi
}
# Adds up the last line of pytest; a run without one has failed.
tests() {
  "$fresh/bin/python" -m pytest -q -p no:cacheprovider "$@" 2>&1 | tee "$log"
  local last count what
  last=$(grep -aE '[0-9]+ (passed|failed|skipped|error)' "$log" | tail -n 1)
  [ -n "$last" ] || { failed=$((failed + 1)); return; }
  while read -r count what; do
    case $what in passed) passed=$((passed + count)) ;; skipped) skipped=$((skipped + count)) ;; *) failed=$((failed + count)) ;; esac
  done < <(grep -oE '[0-9]+ (passed|failed|skipped|errors?)' <<<"$last")
}

check "pip install . in a fresh environment" scripts/python_environment.sh "$fresh" pytest
check "README's example" "$fresh/bin/python" -c '
import pathlib, re
exec(next(block for block in re.findall(r"```python\n(.*?)```", pathlib.Path("README.md").read_text(), re.S) if "import lathe" in block))'
check "the command lathe" "$fresh/bin/lathe" models
tests tests/python --ignore=tests/python/test_reference.py
. scripts/reference.sh
PYTHONPATH=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') tests tests/python/test_reference.py
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
