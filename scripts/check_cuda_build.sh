#!/usr/bin/env bash
# The build with CUDA on a machine that may have neither driver nor GPU, from a compiler, CMake, CUDA and a folder of
# collected libraries alone: it links, starts, names what is missing in one line when it is asked for a device, and
# computes the same bits on the CPU as the build without; tests of some folders pass in it. Closing line "N passed, N
# failed, N skipped".
#   usage: check_cuda_build.sh [PLAIN_BUILD [CUDA_BUILD]]
set -uo pipefail
cd "$(dirname "$0")/.."
plain=${1:-build} build=${2:-build-cuda-check} folder=$(mktemp -d) passed=0 failed=0
trap 'rm -rf "$folder"' EXIT
if ! command -v nvcc >/dev/null && [ ! -x "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" ]; then
  echo "nvcc is not installed: the program was not built with CUDA"
  echo "0 passed, 0 failed, 1 skipped"
  exit 0
fi

# holds WHAT COMMAND...
holds() {
  local what=$1; shift
  if "$@" >"$folder/log" 2>&1; then passed=$((passed + 1)); echo "ok   $what"; return; fi
  failed=$((failed + 1)); echo "FAIL $what"; tail -n 20 "$folder/log"
}
# Headers by what the preprocessor reads (ccache may answer for the compiler with what another build read), libraries by
# what the loader finds.
nothing_of_the_systems() {
  local include=$DEPENDENCIES/usr/include libraries=$DEPENDENCIES/usr/lib/x86_64-linux-gnu
  ninja -C "$build" -t commands lathe_cli | grep -E ' -c [^ ]+\.(cpp|cxx)$' |
    sed -E 's/^ccache //; s/ -M[TF] [^ ]+//g; s/ -MD//; s/ -o [^ ]+ -c / -M /' >"$folder/commands"
  (cd "$build" && sh -e "$folder/commands") >"$folder/rules" || return 1
  grep -oE '/[^ ]+' "$folder/rules" | sort -u | xargs realpath | sort -u >"$folder/read" || return 1
  grep -q "^$include/fmt/" "$folder/read" || return 1
  # The C library and the compiler alone have headers in the system's folder.
  ! grep '^/usr/include/' "$folder/read" | xargs -r dpkg -S 2>&1 | sed 's/[:,].*//' | sort -u |
    grep -vxE 'libc6-dev|linux-libc-dev|libstdc\+\+-[0-9]+-dev' || return 1
  ldd "$build/lathe" "$build/liblathe.so" | awk '{ print $1, $3 }' | sort -u >"$folder/loaded"
  grep -q "^libfmt.* $libraries/" "$folder/loaded" || return 1
  while read -r name path; do
    case $name in
      *:|linux-vdso.*|*/ld-linux-*|liblathe.so.*|lib[cm].so.*|libdl.so.*|librt.so.*|libpthread.so.*|libstdc++.so.*|libgcc_s.so.*) continue ;;
    esac
    [ "${path%/*}" = "$libraries" ] || { echo "$name: $path"; return 1; }
  done <"$folder/loaded"
}
logits() { "$1/lathe" logits --model tests/goldens/qwen3_untied --tokens 1,5,9,3 --output "$2" "${@:3}"; }
no_driver_needed() {
  readelf -d "$build/lathe" "$build/liblathe.so" >"$folder/needed" && grep -q NEEDED "$folder/needed" &&
    ! grep -E 'NEEDED.*(libcuda|libcudart|libnv)' "$folder/needed"
}
names_the_driver() {
  logits "$build" "$folder/none.npy" --device cuda 2>"$folder/error"
  [ $? -ne 0 ] && [ ! -e "$folder/none.npy" ] && grep -c 'the machine has no CUDA driver' "$folder/error" | grep -qx 1
}
same_bits() { logits "$plain" "$folder/a.npy" && logits "$build" "$folder/b.npy" --device cpu && cmp "$folder/a.npy" "$folder/b.npy"; }
plans() { "$build/lathe" plan --config configs/llama/3.2-1b.yaml --context 8192 --device cuda | grep -E '^  graphs +[0-9.]+ MB'; }
without_device() { logits "$build" "$folder/c.npy" && cmp "$folder/a.npy" "$folder/c.npy"; }

export DEPENDENCIES=$PWD/$build/dependencies
if [ ! -d "$DEPENDENCIES" ]; then holds "the libraries are collected" scripts/collect_dependencies.sh "$DEPENDENCIES"; fi
scripts/configure.sh "$build" "-DLATHE_WERROR=${WERROR:-ON}" -DLATHE_CUDA=ON "-DLATHE_CUDA_ARCHITECTURES=${LATHE_CUDA_ARCHITECTURES:-90-real}" || exit 1
holds "the program with CUDA is built" cmake --build "$build" -j "${JOBS:-$(nproc)}" --target lathe_cli test_tensor test_autograd
holds "of the libraries nothing is the system's" nothing_of_the_systems
holds "it needs no library of the driver" no_driver_needed
holds "--device cpu gives the bits of the plain build" same_bits
holds "a plan for a device needs none" plans
if command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; then
  echo "this machine has a GPU: what is said without one was not tried"
else
  holds "--device cuda says in one line that there is no driver" names_the_driver
  holds "without --device it runs on the CPU" without_device
fi
for folder_of_tests in tensor autograd; do
  holds "test_$folder_of_tests" "$build/test_$folder_of_tests"
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
