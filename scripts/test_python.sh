#!/usr/bin/env bash
# The Python package in a fresh virtual environment: README's examples, then tests/python, those beside transformers with
# the packages of .venv-reference, which stays as it is.
set -uo pipefail
cd "$(dirname "$0")/.."
fresh=${BUILD_PYTHON:-build-python}/venv
passed=0 failed=0 skipped=0
log=$(mktemp)
examples=$(mktemp -d)
trap 'rm -rf "$log" "$examples"' EXIT
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
models=$(scripts/find_models.sh)
check "README's examples are there" scripts/readme_examples.py python "$examples"
for example in "$examples"/*.py; do
  check "it compiles" "$fresh/bin/python" -m py_compile "$example"
done
if [ -n "$models" ]; then
  ln -s "$models" "$examples/models"
  python=$(realpath -s "$fresh/bin/python")
  for example in "$examples"/*.py; do
    check "README's $(basename "$example")" bash -c 'cd "$1" && "$2" "$3" >"$3.txt"' - "$examples" "$python" "$example"
  done
  check "README's answer" grep -q Paris "$examples/example_1.py.txt"
else
  echo "SKIP README's examples: they need the model of make demo"; skipped=$((skipped + 1))
fi
check "the command lathe" "$fresh/bin/lathe" models
tests tests/python --ignore-glob="*/test_reference*.py"
. scripts/reference.sh
PYTHONPATH=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') tests tests/python/test_reference*.py
# Situations that users of Python reported.
field=${LATHE_SHARED:-../shared}/acceptance/python_check.py
if [ -n "$models" ] && [ -f "$field" ]; then
  PYTHONPATH=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
    "$fresh/bin/python" "$field" --chat "$models/SmolLM2-135M-Instruct.Q4_1.gguf" | tee "$log"
  read -r p _ f _ < <(grep -E '^[0-9]+ passed, [0-9]+ failed' "$log" | tail -n 1)
  passed=$((passed + ${p:-0})) failed=$((failed + ${f:-1}))
else
  echo "SKIP what users of Python reported: needs the model of make demo and $field"; skipped=$((skipped + 1))
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
