// Three bugs that compute-sanitizer must report, so that its silence about the kernels means something; the emulator's
// own are in tests/simt/test_bugs.cpp. A program of its own, which scripts/gpu_check.py compiles: planted_bugs
// out_of_bounds.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>

namespace {

// Block 0's last thread writes behind the array: memcheck.
__global__ void out_of_bounds(int* x, int n) { x[threadIdx.x + 1 < n ? threadIdx.x : n] = 1; }

// The barrier between the writes and the reads of other threads' values is missing: racecheck.
__global__ void no_barrier(int* x) {
  __shared__ int values[256];
  values[threadIdx.x] = static_cast<int>(threadIdx.x);
  x[threadIdx.x] = values[255 - threadIdx.x];
}

// Sums an array that nobody wrote to: initcheck.
__global__ void not_written(int* x, const int* y) { x[threadIdx.x] = y[threadIdx.x] + 1; }

}  // namespace

int main(int argc, char** argv) {
  constexpr int kThreads = 256;
  int *x = nullptr, *y = nullptr;
  if (argc != 2 || cudaMalloc(&x, kThreads * sizeof(int)) != cudaSuccess ||
      cudaMalloc(&y, kThreads * sizeof(int)) != cudaSuccess)
    return 2;
  const auto is = [&](const char* bug) { return std::strcmp(argv[1], bug) == 0; };
  if (is("out_of_bounds")) out_of_bounds<<<1, kThreads>>>(x, kThreads);
  if (is("no_barrier")) no_barrier<<<1, kThreads>>>(x);
  if (is("not_written")) not_written<<<1, kThreads>>>(x, y);
  const cudaError_t result = cudaDeviceSynchronize();
  std::printf("%s: %s\n", argv[1], cudaGetErrorString(result));
  return 0;
}
