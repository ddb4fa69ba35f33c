// Which of the program's images the kernels of this library run from.
#include "kernels/cuda/gpu.h"
#include "kernels/device_image.h"

namespace lathe::kernel {
namespace {

__global__ void nothing() {}

}  // namespace

DeviceImage device_image(Cuda) {
  cudaFuncAttributes attributes{};
  int device = 0, major = 0, minor = 0;
  DeviceImage image;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess ||
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) != cudaSuccess)
    return image;
  image.architecture = 10 * major + minor;
  if (cudaFuncGetAttributes(&attributes, nothing) != cudaSuccess) {
    cudaGetLastError();  // so that the next launch does not report it
    return image;
  }
  image.compiled_for = attributes.binaryVersion;
  image.ptx = attributes.ptxVersion;
  return image;
}

}  // namespace lathe::kernel
