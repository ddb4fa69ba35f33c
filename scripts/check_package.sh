#!/usr/bin/env bash
# Installs a build folder into an empty prefix, then uses what is there as a stranger would: runs bin/lathe, builds
# tests/package (find_package(lathe)), README's programs and the plugin of examples/plugin against it and runs them.
# README's programs run where the model that they name is in models/ or $LATHE_MODELS.
#   usage: check_package.sh [BUILD_FOLDER]
set -uo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0 skipped=0
check() {
  if "${@:2}" >"$work/log" 2>&1; then echo "ok   $1"; passed=$((passed + 1))
  else echo "FAIL $1"; cat "$work/log"; failed=$((failed + 1)); fi
}
check "install" cmake --install "$build" --prefix "$work/prefix"
check "the installed program finds its library" env -i "$work/prefix/bin/lathe" models
check "README's programs" scripts/readme_examples.py cpp "$work/examples"
check "configure a program of one's own" cmake -S tests/package -B "$work/build" -DCMAKE_PREFIX_PATH="$work/prefix" \
  -DEXAMPLES="$work/examples"
check "build it" cmake --build "$work/build"
check "run it" "$work/build/consumer"
models=$(scripts/find_models.sh)
if [ -n "$models" ]; then
  ln -s "$models" "$work/models"
  for source in "$work"/examples/*.cpp; do
    check "run README's $(basename "$source" .cpp)" \
      bash -c 'cd "$1" && "build/$2" | tee "$2.txt"; exit "${PIPESTATUS[0]}"' - "$work" "$(basename "$source" .cpp)"
  done
  check "README's answer" grep -q Paris "$work/example_1.txt"
else
  echo "SKIP README's programs: they need the model of make demo"; skipped=1
fi
check "configure a plugin" cmake -S examples/plugin -B "$work/plugin" -DCMAKE_PREFIX_PATH="$work/prefix"
check "build it" cmake --build "$work/plugin"
check "load it" "$work/prefix/bin/lathe" models --plugin "$work/plugin/toy_family.so"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
