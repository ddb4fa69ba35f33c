#!/usr/bin/env bash
# Runs the tests of a build folder with ctest, two or more files side by side, then prints the skipped test cases and
# one closing line "N passed, N failed, N skipped" in test cases.
#   usage: run_tests.sh BUILD_FOLDER [ctest options]
set -uo pipefail
build=$1; shift
log=$build/Testing/Temporary/LastTest.log
rm -f "$log"
ctest --test-dir "$build" -j "$(nproc 2>/dev/null || sysctl -n hw.ncpu)" --timeout 600 --output-on-failure --no-tests=error "$@"
result=$?

# A program that died said nothing of its test cases: it counts as one failure.
[ -f "$log" ] || { echo "no test was run" >&2; exit 1; }
grep -a '^SKIP ' "$log" | sort -u
read -r passed failed skipped < <(awk '/^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { p += $1; f += $3; s += $5 }
                                       END { print p + 0, f + 0, s + 0 }' "$log")
[ "$result" -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
echo "$passed passed, $failed failed, $skipped skipped"
exit "$result"
