// Rotary position embedding on the thread team: a rotation is four products and two sums, the same bits on every
// instruction set.
#include "kernels/rope.h"

#include "tensor/threads.h"

namespace lathe::cpu {
namespace {

constexpr int64_t kGrainElements = 16 << 10;  // less is not worth a fork

// One head: y = the rotation of x; sine_sign -1 turns backwards.
void rotate(float* y, const float* x, const float* cos, const float* sin, int64_t head_dim, int64_t rotary_dim,
            RopeStyle style, float sine_sign) {
  const int64_t half = rotary_dim / 2;
  // Where pair i lies: its components are `apart` from each other, and the next pair is `step` further.
  const int64_t apart = style == RopeStyle::half_split ? half : 1, step = style == RopeStyle::half_split ? 1 : 2;
  for (int64_t i = 0; i < half; ++i) {
    const float a = x[i * step], b = x[i * step + apart], s = sine_sign * sin[i];
    y[i * step] = a * cos[i] - b * s;
    y[i * step + apart] = b * cos[i] + a * s;
  }
  for (int64_t i = 2 * half; i < head_dim; ++i) y[i] = x[i];
}

}  // namespace

void rope(float* y, const float* x, int64_t ldx, const float* cos, const float* sin, int64_t n, int64_t heads,
          int64_t head_dim, int64_t rotary_dim, RopeStyle style, int direction) {
  const int64_t half = rotary_dim / 2;
  const float sine_sign = direction < 0 ? -1.0f : 1.0f;
  parallel_for(n, kGrainElements / (heads * head_dim) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      for (int64_t h = 0; h < heads; ++h)
        rotate(y + (t * heads + h) * head_dim, x + t * ldx + h * head_dim, cos + t * half, sin + t * half, head_dim,
               rotary_dim, style, sine_sign);
  });
}

}  // namespace lathe::cpu
