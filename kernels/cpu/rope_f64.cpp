// Rotary position embedding in double.
#include "kernels/rope.h"

namespace lathe::cpu {

void rope(double* y, const double* x, int64_t ldx, const double* cos, const double* sin, int64_t n, int64_t heads,
          int64_t head_dim, int64_t rotary_dim, RopeStyle style, int direction) {
  const int64_t pairs = rotary_dim / 2;
  const bool half = style == RopeStyle::half_split;
  for (int64_t row = 0; row < n * heads; ++row) {
    const int64_t token = row / heads;
    const double* in = x + token * ldx + row % heads * head_dim;
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

}  // namespace lathe::cpu
