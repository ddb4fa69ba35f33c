#!/usr/bin/env bash
# Installs what a target of the Makefile needs and this machine lacks, with apt (Debian, Ubuntu); at once done where
# nothing is missing. On other systems it names the missing tools and libraries.
# Where DEPENDENCIES names a folder of libraries (scripts/collect_dependencies.sh) nothing is installed.
#   usage: install_dependencies.sh build [test] [lint] [fuzz] [demo] [reference] [python] [mpi] [serve] [clients]
#          install_dependencies.sh --libraries GROUP...     prints the libraries' packages among them
set -euo pipefail

declare -A packages=(
  [build]="cmake ninja-build pkg-config libfmt-dev nlohmann-json3-dev libyaml-cpp-dev libcli11-dev
           libpcre2-dev libutf8proc-dev libsentencepiece-dev libedit-dev"
  [test]="catch2"
  [lint]="python3 clang-format clang-tidy"
  [fuzz]="python3 clang libclang-rt-dev"
  [demo]="python3 python3-venv"
  [reference]="python3 python3-venv"
  [python]="python3-dev python3-venv ccache"
  [mpi]="libopenmpi-dev openmpi-bin"
  [serve]="libmicrohttpd-dev"
  [clients]="python3 python3-venv chromium"
)
# Libraries by the name that pkg-config knows, for systems without dpkg: package=library.
declare -A libraries=([libfmt-dev]=fmt [nlohmann-json3-dev]=nlohmann_json [libyaml-cpp-dev]=yaml-cpp
  [libcli11-dev]=CLI11 [libpcre2-dev]=libpcre2-8 [libutf8proc-dev]=libutf8proc
  [libsentencepiece-dev]=sentencepiece [libedit-dev]=libedit [catch2]=catch2 [libopenmpi-dev]=ompi-cxx
  [libmicrohttpd-dev]=libmicrohttpd)
declare -A programs=([ninja-build]=ninja [libclang-rt-dev]=clang++ [clang]=clang++ [python3-venv]=python3
  [python3-dev]=python3-config [openmpi-bin]=mpirun
  [ccache]=true)  # without it the package only takes longer to compile

print_libraries=false
[ "${1:-}" != --libraries ] || { print_libraries=true; shift; }
wanted=()
for group in "$@"; do
  read -ra names <<<"${packages[$group]//$'\n'/ }"
  for name in "${names[@]}"; do
    [[ " ${wanted[*]-} " == *" $name "* ]] || wanted+=("$name")
  done
done
if $print_libraries; then
  for name in "${wanted[@]}"; do [ -z "${libraries[$name]:-}" ] || printf '%s ' "$name"; done
  echo
  exit 0
fi
[ -z "${DEPENDENCIES:-}" ] || exit 0
# A compiler: any that answers to $CXX, c++ or g++ will do.
if [[ " $* " == *" build "* ]] && ! command -v "${CXX:-c++}" >/dev/null; then
  case "${CXX:-}" in *clang*) wanted+=(clang) ;; *) wanted+=(g++) ;; esac
fi

if ! command -v apt-get >/dev/null; then
  missing=()
  for name in "${wanted[@]}"; do
    if [ -n "${libraries[$name]:-}" ]; then
      pkg-config --exists "${libraries[$name]}" 2>/dev/null || missing+=("${libraries[$name]}")
    else
      command -v "${programs[$name]:-$name}" >/dev/null || missing+=("${programs[$name]:-$name}")
    fi
  done
  if [ ${#missing[@]} -gt 0 ]; then
    echo "This system has no apt. Install with its own package manager, then run make again: ${missing[*]}" >&2
    exit 1
  fi
  exit 0
fi

missing=()
for name in "${wanted[@]}"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$name")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "Missing packages, and neither root nor sudo to install them. As root: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "Installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}")
# Package lists may be missing or old on a fresh machine: update and try once more where the first try fails.
"${install[@]}" >/dev/null 2>&1 || { "${as_root[@]}" apt-get update -q >/dev/null && "${install[@]}" >/dev/null; }
