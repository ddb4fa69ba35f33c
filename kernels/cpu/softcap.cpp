// Scale and softcap of logits.
#include "kernels/softcap.h"

#include <cmath>

#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::kernel {

template <class T>
void scale_softcap(Cpu, T* x, double scale_, double cap_, int64_t n) {
  const T scale = static_cast<T>(scale_), cap = static_cast<T>(cap_);
  const ProfileScope profile([&] { return ProfiledCall{"scale_softcap", 8 * n, (cap == 0 ? 1 : 4) * n}; });
  parallel_for(n, kGrainElements, [&](int64_t begin, int64_t end) {
    if (cap == 0)
      for (int64_t i = begin; i < end; ++i) x[i] *= scale;
    else
      for (int64_t i = begin; i < end; ++i) x[i] = cap * std::tanh(x[i] * scale / cap);
  });
}

template <class T>
void scale_softcap_backward(Cpu, T* dy, const T* y, double scale_, double cap_, int64_t n) {
  const ProfileScope profile([&] { return ProfiledCall{"scale_softcap_backward", 3 * int64_t{sizeof(T)} * n, 5 * n}; });
  const T scale = static_cast<T>(scale_), cap = static_cast<T>(cap_);
  parallel_for(n, kGrainElements, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T t = cap == 0 ? T(0) : y[i] / cap;
      dy[i] *= scale * (1 - t * t);
    }
  });
}

template void scale_softcap(Cpu, float*, double, double, int64_t);
template void scale_softcap(Cpu, double*, double, double, int64_t);
template void scale_softcap_backward(Cpu, float*, const float*, double, double, int64_t);
template void scale_softcap_backward(Cpu, double*, const double*, double, double, int64_t);

}  // namespace lathe::kernel
