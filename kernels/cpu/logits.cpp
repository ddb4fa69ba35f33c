// Scale and softcap of logits.
#include "kernels/logits.h"

#include <cmath>

#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::cpu {
namespace {
constexpr int64_t kGrain = 16384;
}

template <class T>
void scale_softcap(T* x, T scale, T cap, int64_t n) {
  const ProfileScope profile([&] { return ProfiledCall{"scale_softcap", 8 * n, (cap == 0 ? 1 : 4) * n}; });
  parallel_for(n, kGrain, [&](int64_t begin, int64_t end) {
    if (cap == 0)
      for (int64_t i = begin; i < end; ++i) x[i] *= scale;
    else
      for (int64_t i = begin; i < end; ++i) x[i] = cap * std::tanh(x[i] * scale / cap);
  });
}
template void scale_softcap(float*, float, float, int64_t);
template void scale_softcap(double*, double, double, int64_t);

template <class T>
void scale_softcap_backward(T* dy, const T* y, T scale, T cap, int64_t n) {
  parallel_for(n, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T t = cap == 0 ? T(0) : y[i] / cap;
      dy[i] *= scale * (1 - t * t);
    }
  });
}
template void scale_softcap_backward(float*, const float*, float, float, int64_t);
template void scale_softcap_backward(double*, const double*, double, double, int64_t);

}  // namespace lathe::cpu
