// Scale and softcap of logits on a CUDA device. Limits derived at 3.0 TB/s: 8 and 12 bytes an element. Not measured
// yet: no GPU has run it.
#include "kernels/cuda/over_grid.h"
#include "kernels/softcap.h"

namespace lathe::kernel {
namespace {

struct ScaleSoftcap {
  float scale, cap;
  __device__ float operator()(float x) const { return cap == 0.0f ? x * scale : cap * tanhf(x * scale / cap); }
};
struct ScaleSoftcapBackward {
  float scale, cap;
  __device__ float operator()(float dy, float y) const {
    const float t = cap == 0.0f ? 0.0f : y / cap;
    return dy * (scale * (1.0f - t * t));
  }
};

}  // namespace

template <class T>
void scale_softcap(Cuda on, T* x, double scale, double cap, int64_t n) {
  map_rows(on, Rows<T>(x, n), 1, n, ScaleSoftcap{static_cast<float>(scale), static_cast<float>(cap)},
           Rows<const T>(x, n));
}
template <class T>
void scale_softcap_backward(Cuda on, T* dy, const T* y, double scale, double cap, int64_t n) {
  map_rows(on, Rows<T>(dy, n), 1, n, ScaleSoftcapBackward{static_cast<float>(scale), static_cast<float>(cap)},
           Rows<const T>(dy, n), Rows<const T>(y, n));
}

template void scale_softcap(Cuda, float*, double, double, int64_t);
template void scale_softcap_backward(Cuda, float*, const float*, double, double, int64_t);

}  // namespace lathe::kernel
