// Gradients of the element-wise functions.
#include <algorithm>

#include "kernels/cpu/activation_formulas.h"
#include "tensor/threads.h"

namespace lathe::cpu {
namespace {
int64_t activation_grain(int64_t n) { return std::max<int64_t>(1, 8192 / std::max<int64_t>(1, n)); }
}  // namespace

template <class T>
void activation_backward(T* dx, const T* dy, const T* x, int64_t ldx, int64_t rows, int64_t n, Activation f) {
  parallel_for(rows, activation_grain(n), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t i = 0; i < n; ++i) dx[row * n + i] = dy[row * n + i] * evaluate(f, x[row * ldx + i]).slope;
  });
}
template void activation_backward(float*, const float*, const float*, int64_t, int64_t, int64_t, Activation);
template void activation_backward(double*, const double*, const double*, int64_t, int64_t, int64_t, Activation);

template <class T>
void gated_activation_backward(T* dgate, T* dup, const T* dy, const T* gate, int64_t ldg, const T* up, int64_t ldu,
                               int64_t rows, int64_t n, Activation f) {
  parallel_for(rows, activation_grain(n), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t i = 0; i < n; ++i) {
        const auto [value, slope] = evaluate(f, gate[row * ldg + i]);
        const T d = dy[row * n + i];
        dgate[row * n + i] = d * up[row * ldu + i] * slope;
        dup[row * n + i] = d * value;
      }
  });
}
template void gated_activation_backward(float*, float*, const float*, const float*, int64_t, const float*, int64_t,
                                        int64_t, int64_t, Activation);
template void gated_activation_backward(double*, double*, const double*, const double*, int64_t, const double*, int64_t,
                                        int64_t, int64_t, Activation);

}  // namespace lathe::cpu
