#!/usr/bin/env bash
# `make train-demo`: a model of half a million weights learns to tell the stories of scripts/make_stories.py. With the
# argument "whole", `make stories`: the recipe to its end, and the result in examples/stories.
set -euo pipefail
cd "$(dirname "$0")/.."
lathe=${BUILD:-build}/lathe
text=${BUILD:-build}/stories.txt
run=runs/stories
scripts/make_stories.py "$text"
short=(--set training.steps=200 --set evaluation.every=100)
[ "${1:-}" != whole ] || short=()
rm -rf "$run"
"$lathe" train --config configs/llama/stories.yaml --output "$run" --set "data.train=$text" "${short[@]}"
echo
"$lathe" generate --model "$run/model" --prompt "Once there was a" --max-new-tokens 120 --temperature 0.7 --seed 1 2>/dev/null
if [ "${1:-}" = whole ]; then
  rm -rf examples/stories
  "$lathe" convert --model "$run/model" --output examples/stories --dtype bfloat16
  cp "$run/report.html" "$run/recipe.yaml" examples/stories/
fi
