#!/usr/bin/env bash
# check_lm_eval.py in an environment of its own that sees the reference's packages beside lm_eval's.
#   usage: check_lm_eval.sh BUILD_FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/reference.sh
environment=$1/lm_eval  # behind the script, which has a variable of this name
if [ ! -f "$environment/complete" ]; then
  packages=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  python -m venv --clear "$environment"
  echo "$packages" >"$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/reference.pth"
  "$environment/bin/pip" install -q "lm_eval[api]" accelerate datasets
  touch "$environment/complete"
fi
"$environment/bin/python" scripts/check_lm_eval.py "$1/lathe"
