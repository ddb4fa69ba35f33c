#!/usr/bin/env bash
# Configures a build folder with CMake for the compiler $CXX; quick where that is done already. A folder that another
# compiler was configured for starts afresh (CMake would go on with the old one in silence).
# Where DEPENDENCIES names a folder of libraries (scripts/collect_dependencies.sh) they are taken from it.
#   usage: configure.sh BUILD_FOLDER [CMake options]
set -euo pipefail
build=$1; shift
cache=$build/CMakeCache.txt
compiler=$(command -v "${CXX:-c++}") || { echo "no C++ compiler: ${CXX:-c++} is not in PATH" >&2; exit 1; }
# Compared by what the links lead to, for /usr/bin/c++, /usr/bin/g++ and g++ may all be one compiler; called by its own
# name, for a program may go by that (clang++ leads to clang, which links no C++ library; a link to ccache names both).
identity=$(readlink -f "$compiler")
[ "${identity##*/}" != ccache ] || identity=$compiler
# The same for libraries: CMake keeps those that it has found.
[ -z "${DEPENDENCIES:-}" ] || identity+=" with $(realpath -m "$DEPENDENCIES")"
before=$([ ! -f "$cache" ] || sed -n 's/^LATHE_COMPILER:.*=//p' "$cache")
if [ -f "$cache" ] && [ "$before" != "$identity" ]; then
  echo "$build: was configured for ${before:-another compiler}, starts afresh for $identity" >&2
  rm -rf "$cache" "$build/CMakeFiles"
fi
options=("$@")
[ -f "$cache" ] || options+=(-G Ninja "-DLATHE_COMPILER:INTERNAL=$identity" "-DCMAKE_CXX_COMPILER=$compiler")
! command -v ccache >/dev/null || options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
if [ -n "${DEPENDENCIES:-}" ]; then
  [ -d "$DEPENDENCIES/usr" ] || { echo "DEPENDENCIES=$DEPENDENCIES: no folder of scripts/collect_dependencies.sh" >&2; exit 1; }
  # The older kind of search path in a program holds for the libraries of its libraries, too.
  options+=("-DCMAKE_PREFIX_PATH=$(realpath "$DEPENDENCIES")/usr" -DCMAKE_FIND_USE_CMAKE_SYSTEM_PATH=OFF
            -DCMAKE_DISABLE_FIND_PACKAGE_MPI=ON "-DCMAKE_SHARED_LINKER_FLAGS=-Wl,--disable-new-dtags"
            "-DCMAKE_EXE_LINKER_FLAGS=-Wl,--disable-new-dtags")
fi
mkdir -p "$build"
# The log is shown where something is wrong.
cmake -S . -B "$build" "${options[@]}" >"$build/configure.log" 2>&1 || { cat "$build/configure.log" >&2; exit 1; }
