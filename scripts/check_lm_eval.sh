#!/usr/bin/env bash
# check_lm_eval.py in an environment of its own that sees the reference's packages beside lm_eval's.
#   usage: check_lm_eval.sh BUILD_FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/reference.sh
harness=$1/lm_eval
if [ ! -f "$harness/complete" ]; then
  packages=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  python -m venv --clear "$harness"
  echo "$packages" >"$("$harness/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/reference.pth"
  "$harness/bin/pip" install -q "lm_eval[api]" accelerate datasets
  touch "$harness/complete"
fi
"$harness/bin/python" scripts/check_lm_eval.py "$1/lathe"
