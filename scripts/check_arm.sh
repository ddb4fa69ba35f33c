#!/usr/bin/env bash
# The program for AArch64 on a machine that is none: cross-built by Debian's compiler, its tests run in qemu, which is a
# processor for each instruction set in turn. So results are seen to be right there; how fast they come is not.
# The linears of integers are all in which the instruction sets differ: their tests run on each, the others on the last.
# The closing line counts test cases, and programs that say what they run on and generate what transformers does.
#   usage: check_arm.sh [BUILD_FOLDER]
set -uo pipefail
cd "$(dirname "$0")/.."
build=${1:-build-arm}
shared=${LATHE_SHARED:-../shared}
emulator=(qemu-aarch64 -L /usr/aarch64-linux-gnu)
declare -A processors=([neon]=cortex-a72 [neon_dot]=neoverse-n1 [neon_i8mm]=max)
passed=0 failed=0 skipped=0

scripts/install_dependencies.sh arm || exit 1
[ -d "$build/libraries" ] || scripts/collect_dependencies.sh "$build/libraries" arm64 || exit 1
CXX=aarch64-linux-gnu-g++ DEPENDENCIES=$build/libraries scripts/configure.sh "$build" "-DLATHE_WERROR=${WERROR:-OFF}" \
  -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 "-DCMAKE_CROSSCOMPILING_EMULATOR=$(IFS=';'; echo "${emulator[*]}")" || exit 1
cmake --build "$build" -j "$(nproc)" --target lathe_cli test_kernels test_llm test_generate || exit 1

# Tests of a pattern on the processor of an instruction set.
tests() {
  local log p=0 f=1 s=0
  echo "-- $1: $2"
  log=$(QEMU_CPU=${processors[$1]} scripts/run_tests.sh "$build" --timeout 3000 -R "$2")
  echo "$log" | grep -v '^ *[0-9]*/[0-9]* Test\|^ *Start'
  read -r p _ f _ s _ < <(tail -n 1 <<<"$log" | grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$')
  passed=$((passed + ${p:-0})) failed=$((failed + ${f:-1})) skipped=$((skipped + ${s:-0}))
}

# A name, then a command that succeeds where all is well.
check() {
  if "${@:2}"; then passed=$((passed + 1)); else echo "FAILED: $1"; failed=$((failed + 1)); fi
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The processor of an instruction set has it and none above it.
chosen() {
  QEMU_CPU=${processors[$1]} "${emulator[@]}" "$build/lathe" logits --model tests/goldens/llama_untied_gqa --tokens 1,2 \
    --output "$work/logits.npy" 2>"$work/log" && grep -qw "$1" "$work/log" || { cat "$work/log"; false; }
}
story() {
  QEMU_CPU=${processors[$1]} python3 - "$shared/models/stories260K" "${emulator[@]}" "$build/lathe" <<'PYTHON'
import json, subprocess, sys
folder, *program = sys.argv[1:]
different = 0
for expected in json.load(open(f"{folder}/expected.json"))["prompts"]:
    command = [*program, "generate", "--model", f"{folder}/hf", "--dtype", "float32", "--greedy", "--json",
               "--max-new-tokens", str(len(expected["greedy_ids"])), "--prompt", expected["prompt"]]
    answer = json.loads(subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout)
    if answer["tokens"] != expected["greedy_ids"]:
        print(f"{expected['prompt']!r}: expected {expected['greedy_ids']}, found {answer['tokens']}")
        different += 1
sys.exit(different)
PYTHON
}

for isa in neon neon_dot neon_i8mm; do
  check "$isa is what a ${processors[$isa]} runs" chosen "$isa"
  if [ -d "$shared/models/stories260K" ]; then
    check "stories260K on $isa is transformers' text" story "$isa"
  else
    echo "SKIP stories260K on $isa: no $shared/models/stories260K"
    skipped=$((skipped + 1))
  fi
done
tests neon_i8mm '^(kernels/|llm/test_goldens$|generate/test_laws$)'
for isa in neon neon_dot; do tests "$isa" '^kernels/test_(threads|packed_linear|linear_errors|peak_rates)$'; done

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
