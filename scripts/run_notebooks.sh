#!/usr/bin/env bash
# Executes notebooks/ in a fresh environment of the package, with torch and transformers from .venv-reference; their
# output is written back. A cell that fails, and each asserts what it shows, fails the run.
#   usage: run_notebooks.sh [--check] [NAME...]      --check: the files stay as they are
set -euo pipefail
cd "$(dirname "$0")/.."
fresh=${BUILD_PYTHON:-build-python}/venv-notebooks
scripts/python_environment.sh "$fresh" nbclient nbformat ipykernel matplotlib
. scripts/reference.sh
PYTHONPATH=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
export PYTHONPATH
. "$fresh/bin/activate"
python scripts/run_notebooks.py "$@"
