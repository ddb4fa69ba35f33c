// Rotary position embedding on the thread team; the rotation itself is in row_kernels.h: four products and two
// sums, the same bits on every instruction set.
#include "kernels/rope.h"

#include "kernels/cpu/dispatch.h"
#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::kernel {

template <>
void rope(Cpu, float* y, ConstRows<float> x, const float* cos, const float* sin, int64_t n, int64_t heads,
          int64_t head_dim, int64_t rotary_dim, RopeStyle style, int direction) {
  const ProfileScope profile([&] {
    return ProfiledCall{"rope", 8 * n * heads * head_dim, 3 * n * heads * rotary_dim};
  });
  const int64_t half = rotary_dim / 2;
  const auto rotate = cpu::kernels().rows.rotate;
  const float sine_sign = direction < 0 ? -1.0f : 1.0f;
  parallel_for(n, kGrainElements / (heads * head_dim) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      rotate(y + t * heads * head_dim, x[t], cos + t * half, sin + t * half, heads, head_dim, rotary_dim, style,
             sine_sign);
  });
}

// ---- in double ----

template <>
void rope(Cpu, double* y, ConstRows<double> x, const double* cos, const double* sin, int64_t n, int64_t heads,
          int64_t head_dim, int64_t rotary_dim, RopeStyle style, int direction) {
  const int64_t pairs = rotary_dim / 2;
  const bool half = style == RopeStyle::half_split;
  for (int64_t row = 0; row < n * heads; ++row) {
    const int64_t token = row / heads;
    const double* in = x[token] + row % heads * head_dim;
    double* out = y + row * head_dim;
    for (int64_t i = 0; i < pairs; ++i) {
      const int64_t first = half ? i : 2 * i, second = half ? i + pairs : 2 * i + 1;
      const double c = cos[token * pairs + i], s = sin[token * pairs + i] * direction;
      const double a = in[first], b = in[second];
      out[first] = a * c - b * s;
      out[second] = b * c + a * s;
    }
    for (int64_t i = rotary_dim; i < head_dim; ++i) out[i] = in[i];
  }
}

}  // namespace lathe::kernel
