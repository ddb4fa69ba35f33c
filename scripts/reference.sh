#!/usr/bin/env bash
# Makes .venv-reference, the Python environment with torch and transformers that the models are compared with, and
# prints its versions. ../shared has a recipe with pinned versions; without it PyPI's own (large) packages are taken.
# Sourced by other scripts, it leaves the environment active.
environment=.venv-reference
recipe=${LATHE_SHARED:-../shared}/acceptance/setup_reference.sh
if [ -f "$recipe" ]; then
  . "$recipe" "$environment"
else
  if [ ! -f "$environment/complete" ]; then
    python3 -m venv --clear "$environment" &&
      "$environment/bin/pip" install -q torch transformers numpy safetensors sentencepiece protobuf gguf accelerate mistral-common &&
      touch "$environment/complete"
  fi
  . "$environment/bin/activate" &&
    python -c 'import torch, transformers; print("reference: torch", torch.__version__, "transformers", transformers.__version__)'
fi
