#!/usr/bin/env bash
# Configures a build folder with CMake for the compiler $CXX; quick where that is done already. A folder that another
# compiler was configured for starts afresh (CMake would go on with the old one in silence).
#   usage: configure.sh BUILD_FOLDER [CMake options]
set -euo pipefail
build=$1; shift
cache=$build/CMakeCache.txt
compiler=$(command -v "${CXX:-c++}") || { echo "no C++ compiler: ${CXX:-c++} is not in PATH" >&2; exit 1; }
# By what the links lead to: /usr/bin/c++, /usr/bin/g++ and g++ may all be one compiler.
compiler=$(readlink -f "$compiler")
before=$([ ! -f "$cache" ] || sed -n 's/^LATHE_COMPILER:.*=//p' "$cache")
if [ -f "$cache" ] && [ "$before" != "$compiler" ]; then
  echo "$build: was configured for ${before:-another compiler}, starts afresh for $compiler" >&2
  rm -rf "$cache" "$build/CMakeFiles"
fi
options=("-DLATHE_COMPILER:INTERNAL=$compiler" "-DCMAKE_CXX_COMPILER=$compiler" "$@")
[ -f "$cache" ] || options+=(-G Ninja)
! command -v ccache >/dev/null || options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
mkdir -p "$build"
# The log is shown where something is wrong.
cmake -S . -B "$build" "${options[@]}" >"$build/configure.log" 2>&1 || { cat "$build/configure.log" >&2; exit 1; }
