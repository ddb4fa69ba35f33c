// Rotary position embedding on the thread team; the rotation itself is in row_kernels.h: four products and two
// sums, the same bits on every instruction set.
#include "kernels/rope.h"

#include <cmath>

#include "kernels/cpu/dispatch.h"
#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::kernel {

template <>
void rope(Cpu, Rows<float> y, ConstRows<float> x, const Rotation<float>& r, int64_t n, int64_t heads, int64_t head_dim,
          int direction) {
  const ProfileScope profile([&] {
    return ProfiledCall{"rope", 8 * n * heads * head_dim, 3 * n * heads * r.rotary_dim};
  });
  const auto rotate = cpu::kernels().rows.rotate;
  const float sine_sign = direction < 0 ? -1.0f : 1.0f;
  parallel_for(n, kGrainElements / (heads * head_dim) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      rotate(y[t], x[t], r.cos_of(t), r.sin_of(t), heads, head_dim, r.rotary_dim, r.style, sine_sign);
  });
}

// ---- in double ----

template <>
void rope(Cpu, Rows<double> y, ConstRows<double> x, const Rotation<double>& r, int64_t n, int64_t heads,
          int64_t head_dim, int direction) {
  const int64_t pairs = r.rotary_dim / 2;
  const bool half = r.style == RopeStyle::half_split;
  for (int64_t row = 0; row < n * heads; ++row) {
    const int64_t token = row / heads;
    const double* in = x[token] + row % heads * head_dim;
    double* out = y[token] + row % heads * head_dim;
    for (int64_t i = 0; i < pairs; ++i) {
      const int64_t first = half ? i : 2 * i, second = half ? i + pairs : 2 * i + 1;
      const double c = r.cos_of(token)[i], s = r.sin_of(token)[i] * direction;
      const double a = in[first], b = in[second];
      out[first] = a * c - b * s;
      out[second] = b * c + a * s;
    }
    for (int64_t i = r.rotary_dim; i < head_dim; ++i) out[i] = in[i];
  }
}

// ---- angles ----

// An angle is a product of two f32 values, as the references compute it: at long positions its rounding is what decides
// whether two implementations agree.
template <class T>
void rope_rows(Cpu, T* cos, T* sin, const float* inverse, float factor, int64_t first, int64_t end, int64_t half) {
  parallel_for(end - first, 16, [&](int64_t from, int64_t to) {
    for (int64_t at = (first + from) * half; at < (first + to) * half; ++at) {
      const int64_t position = at / half;
      const auto angle = static_cast<double>(static_cast<float>(position) * inverse[at % half]);
      cos[at] = static_cast<T>(std::cos(angle) * static_cast<double>(factor));
      sin[at] = static_cast<T>(std::sin(angle) * static_cast<double>(factor));
    }
  });
}
template void rope_rows(Cpu, float*, float*, const float*, float, int64_t, int64_t, int64_t);
template void rope_rows(Cpu, double*, double*, const float*, float, int64_t, int64_t, int64_t);

}  // namespace lathe::kernel
