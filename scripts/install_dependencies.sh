#!/usr/bin/env bash
# Installs what a target of the Makefile needs and this machine lacks, with apt (Debian, Ubuntu); at once done where
# nothing is missing. On other systems it names the missing tools and libraries, on a Mac as Homebrew does.
# Where DEPENDENCIES names a folder of libraries (scripts/collect_dependencies.sh) nothing is installed.
#   usage: install_dependencies.sh build [test] [lint] [fuzz] [demo] [reference] [python] [mpi] [serve] [clients] [arm]
#          install_dependencies.sh --libraries GROUP...     prints the libraries' packages among them
set -euo pipefail
((BASH_VERSINFO[0] >= 4)) || { echo "install_dependencies.sh: needs bash 4, found $BASH_VERSION (on a Mac: brew install bash)" >&2; exit 1; }

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
  [arm]="python3 cmake ninja-build g++-aarch64-linux-gnu qemu-user"
)
# Libraries by the name that pkg-config knows, for systems without dpkg: package=library.
declare -A libraries=([libfmt-dev]=fmt [nlohmann-json3-dev]=nlohmann_json [libyaml-cpp-dev]=yaml-cpp
  [libcli11-dev]=CLI11 [libpcre2-dev]=libpcre2-8 [libutf8proc-dev]=libutf8proc
  [libsentencepiece-dev]=sentencepiece [libedit-dev]=libedit [catch2]=catch2 [libopenmpi-dev]=ompi-cxx
  [libmicrohttpd-dev]=libmicrohttpd)
declare -A programs=([ninja-build]=ninja [libclang-rt-dev]=clang++ [clang]=clang++ [python3-venv]=python3
  [python3-dev]=python3-config [openmpi-bin]=mpirun
  [g++-aarch64-linux-gnu]=aarch64-linux-gnu-g++ [qemu-user]=qemu-aarch64
  [ccache]=true)  # without it the package only takes longer to compile
# As Homebrew names them; the Mac's own libedit will do, and there is no server there.
declare -A formulas=([ninja-build]=ninja [pkg-config]=pkgconf [libfmt-dev]=fmt [nlohmann-json3-dev]=nlohmann-json
  [libyaml-cpp-dev]=yaml-cpp [libcli11-dev]=cli11 [libpcre2-dev]=pcre2 [libutf8proc-dev]=utf8proc
  [libsentencepiece-dev]=sentencepiece [libopenmpi-dev]=open-mpi [openmpi-bin]=open-mpi [python3]=python
  [python3-dev]=python [python3-venv]=python)
mac=false
[ "$(uname)" != Darwin ] || mac=true

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
      if $mac && [[ " libedit-dev libmicrohttpd-dev " == *" $name "* ]]; then continue; fi
      pkg-config --exists "${libraries[$name]}" 2>/dev/null && continue
      generic=${libraries[$name]}
    else
      generic=${programs[$name]:-$name}
      ! command -v "$generic" >/dev/null || continue
    fi
    if $mac; then missing+=("${formulas[$name]:-$name}"); else missing+=("$generic"); fi
  done
  if [ ${#missing[@]} -gt 0 ]; then
    if $mac; then advice="Install with Homebrew, then run make again: brew install"
    else advice="This system has no apt. Install with its own package manager, then run make again:"; fi
    echo "$advice ${missing[*]}" >&2
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
