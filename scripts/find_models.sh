#!/usr/bin/env bash
# Prints the folder with the model of make demo, models/ or one of $LATHE_MODELS; nothing where there is none.
cd "$(dirname "$0")/.."
IFS=: read -ra folders <<<"models:${LATHE_MODELS:-}"
for folder in "${folders[@]}"; do
  [ -z "$folder" ] || [ ! -f "$folder/SmolLM2-135M-Instruct.Q4_1.gguf" ] || { realpath "$folder"; break; }
done
