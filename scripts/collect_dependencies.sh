#!/usr/bin/env bash
# The libraries that a build needs beside a compiler and CMake, unpacked into a folder that can be copied to a machine
# where nothing can be installed (x86-64 Linux with a C library no older than this one's). There,
# `make build CUDA=1 DEPENDENCIES=FOLDER` and gpu_check.py with DEPENDENCIES in the environment take them from it.
# For another ARCHITECTURE, as Debian names it, they are those of a cross-build (check_arm.sh); apt's lists of it are
# kept in a folder of their own, so that this machine's packages stay as they are.
#   usage: collect_dependencies.sh FOLDER [ARCHITECTURE]
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(realpath -m "${1:?usage: collect_dependencies.sh FOLDER [ARCHITECTURE]}")
[ ! -e "$folder" ] || { echo "$folder: there is something already" >&2; exit 1; }
command -v apt-get >/dev/null || { echo "collect_dependencies.sh: needs apt, for it unpacks Debian's or Ubuntu's packages" >&2; exit 1; }

mkdir -p "$(dirname "$folder")"
work=$(mktemp -d "$(dirname "$folder")/.collect.XXXXXX")  # beside it, so that it is there whole or not at all
trap 'rm -rf "$work"' EXIT
apt=()
if [ -n "${2:-}" ]; then
  mkdir -p "$work"/apt/{lists,archives}/partial
  apt=(-o "APT::Architecture=$2" -o "APT::Architectures=$2" -o Dir::State::lists="$work/apt/lists"
       -o Dir::State::status=/dev/null -o Dir::Cache="$work/apt")
  apt-get "${apt[@]}" update -q >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
fi

with_what_they_need() {
  apt-cache "${apt[@]}" depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances "$@" |
    grep '^[a-z]' | sort -u
}
read -ra libraries < <(scripts/install_dependencies.sh --libraries build test)
# What the C library and the compiler need is there with them.
mapfile -t packages < <(comm -23 <(with_what_they_need "${libraries[@]}") <(with_what_they_need libc6-dev libstdc++6))

for library in "${libraries[@]}"; do
  [[ " ${packages[*]-} " == *" $library "* ]] || { echo "$library: apt knows no such package; apt-get update may help" >&2; exit 1; }
done

(cd "$work" && apt-get "${apt[@]}" download -q "${packages[@]}") >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
mkdir -p "$work/tree"
for package in "$work"/*.deb; do dpkg -x "$package" "$work/tree"; done
# Where /lib is a link to /usr/lib, a package may still name it.
[ ! -d "$work/tree/lib" ] || { cp -a "$work/tree/lib/." "$work/tree/usr/lib/" && rm -rf "$work/tree/lib"; }
rm -rf "$work/tree/usr/share/doc" "$work/tree/usr/share/man" "$work/tree/usr/bin"
# What Debian links by an absolute path lies in the folder, too.
find "$work/tree" -type l | while read -r link; do
  target=$(readlink "$link")
  [[ $target != /* ]] || ln -sfr "$work/tree/usr/lib/${target#*/lib/}" "$link"
done
mv "$work/tree" "$folder"
echo "$folder: $(du -sh "$folder" | cut -f1) of ${#packages[@]} packages"
