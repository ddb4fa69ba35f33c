#!/usr/bin/env bash
# Makes a fresh virtual environment with the Python package as a stranger gets it, `pip install .`, and with the packages
# that are named besides. The build folder build-python stays and ccache has what `make build` compiled, so that only
# what has changed is compiled again.    usage: python_environment.sh ENVIRONMENT [PACKAGE...]
set -euo pipefail
cd "$(dirname "$0")/.."
environment=$1; shift
export CXX; CXX=$(command -v "${CXX:-c++}")  # as for `make build`; scikit-build-core would take g++, another name to ccache
! command -v ccache >/dev/null || export CMAKE_CXX_COMPILER_LAUNCHER=ccache
rm -rf "$environment"
python3 -m venv "$environment"
"$environment/bin/pip" install -q . --config-settings=build-dir="${BUILD_PYTHON:-build-python}" \
  --config-settings=cmake.define.LATHE_WERROR="${WERROR:-OFF}"
[ $# -eq 0 ] || "$environment/bin/pip" install -q "$@"
