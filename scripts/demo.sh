#!/usr/bin/env bash
# `make demo`: a real model answers a question. The first run fetches the model (scripts/fetch_demo_model.py).
set -euo pipefail
cd "$(dirname "$0")/.."
question=${1:-What is the capital of France?}
scripts/fetch_demo_model.py
echo "Question: $question"
exec "${BUILD:-build}"/lathe generate --model models/SmolLM2-135M-Instruct.Q4_1.gguf --chat --prompt "$question"
