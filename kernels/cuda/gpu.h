// The machine, as kernels see it: the one header of it that a file of kernels/cuda/ includes, and host code that talks
// to the CUDA runtime.
//
// nvcc compiles these files for a GPU. The tests compile the same files as C++ with an emulator in CUDA's place, which
// finds their races, missing waits and reads out of bounds on the CPU: targets that have <simt/simt.h> on their include
// path get it. So kernels keep to what both know: SHARED_ARRAY and DYN_SHARED in place of __shared__ (at the function's
// scope, outside of any condition), LAUNCH in place of <<<>>>, no inline PTX outside of gpu_operations.h, no
// __activemask, no block that waits for another.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/device.h"
#include "tensor/dtype.h"

#if __has_include(<simt/simt.h>)
#include <simt/cudart.h>
#include <simt/simt.h>

// SHARED_ARRAY(float, sums, [2][32]);  an array in shared memory, aligned to 16 bytes at least
#define SHARED_ARRAY(T, name, ...)                  \
  static char name##_tag;                           \
  auto& name = *reinterpret_cast<T(*) __VA_ARGS__>( \
      ::simt::shared_memory(&name##_tag, sizeof(T __VA_ARGS__), alignof(T) > 16 ? alignof(T) : 16))
// DYN_SHARED(float, row);  the launch's dynamic shared memory, aligned to 128 bytes
#define DYN_SHARED(T, name) T* name = static_cast<T*>(::simt::dynamic_shared_memory())
// LAUNCH((rms_norm_kernel<float>), dim3(rows), dim3(256), bytes, cuda.stream, y, x);  a launch that fails throws
#define LAUNCH(f, grid, block, smem, stream, ...) \
  ::simt::launch(#f, f, grid, block, smem, stream __VA_OPT__(, ) __VA_ARGS__)

#else
#include <cuda_runtime.h>

namespace lathe::kernel {

[[noreturn]] void launch_failed(const char* kernel, const char* error);  // throws Error

template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
            Arguments... arguments) {
  cudaError_t error = cudaSuccess;
  // More than 48 KiB, static arrays included, are given to kernels that asked for it only.
  if (shared > 32 << 10)
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  if (error == cudaSuccess) {
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    error = cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
  }
  if (error == cudaSuccess) return;
  cudaGetLastError();  // so that the next launch does not report it
  launch_failed(name, cudaGetErrorString(error));
}

}  // namespace lathe::kernel

#define SHARED_ARRAY(T, name, ...) __shared__ __align__(16) T name __VA_ARGS__
#define DYN_SHARED(T, name)                                    \
  extern __shared__ __align__(128) unsigned char name##_raw[]; \
  T* name = reinterpret_cast<T*>(name##_raw)
#define LAUNCH(f, grid, block, smem, stream, ...) \
  ::lathe::kernel::launch(#f, f, grid, block, smem, stream __VA_OPT__(, ) __VA_ARGS__)
#endif

#if defined(__CUDACC__) || __has_include(<simt/simt.h>)
#include "kernels/cuda/gpu_operations.h"
#endif
