#!/usr/bin/env bash
# Runs every fuzzer of a build folder for a number of seconds, two at a time, from the kept corpus. What is new goes
# to a folder of the build; an input that breaks a reader stays there as <format>-crash-...: add it to the corpus with
# the fix.   usage: fuzz.sh BUILD_FOLDER SECONDS [FORMAT...]
set -uo pipefail
build=$1 seconds=$2
run() {
  local name=$1 seconds=$seconds new=$build/corpus-$1 words=()
  mkdir -p "$new"
  if [ -f "tests/fuzz/$name.dict" ]; then words=(-dict="tests/fuzz/$name.dict"); fi
  # Strangers reach the API: it is tried three times as long.
  [ "$name" != serve ] || seconds=$((3 * seconds))
  "$build/fuzz_$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=256 -max_len=65536 \
    -print_final_stats=1 ${words[@]+"${words[@]}"} -artifact_prefix="$build/$name-" "$new" "tests/fuzz/corpus/$name" >"$build/fuzz_$name.log" 2>&1
  local result=$?
  if [ $result -ne 0 ]; then tail -n 40 "$build/fuzz_$name.log"; fi
  echo "fuzz_$name: $(sed -n 's/stat::number_of_executed_units: *//p' "$build/fuzz_$name.log") inputs, exit code $result"
  return $result
}
names=("${@:3}") passed=0 failed=0 started=()
if [ $# -eq 2 ]; then
  for source in tests/fuzz/fuzz_*.cpp; do name=${source##*/fuzz_}; names+=("${name%.cpp}"); done
fi
count() { if wait "$1"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi; }
for name in "${names[@]}"; do
  if [ ${#started[@]} -eq 2 ]; then
    count "${started[0]}"
    started=("${started[1]}")
  fi
  run "$name" &
  started+=($!)
done
for process in "${started[@]}"; do count "$process"; done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
