// Rotary position embedding on the thread team; the rotation itself is in row_kernels.h. It is four products and two
// sums, the same bits on every instruction set.
#include "kernels/rope.h"

#include "kernels/cpu/dispatch.h"
#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::cpu {

void rope(float* y, const float* x, int64_t ldx, const float* cos, const float* sin, int64_t n, int64_t heads,
          int64_t head_dim, int64_t rotary_dim, RopeStyle style, int direction) {
  const ProfileScope profile([&] {
    return ProfiledCall{"rope", 8 * n * heads * head_dim, 3 * n * heads * rotary_dim};
  });
  const int64_t half = rotary_dim / 2;
  const auto rotate = kernels().rows.rotate;
  const float sine_sign = direction < 0 ? -1.0f : 1.0f;
  parallel_for(n, kGrainElements / (heads * head_dim) + 1, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      rotate(y + t * heads * head_dim, x + t * ldx, cos + t * half, sin + t * half, heads, head_dim, rotary_dim, style,
             sine_sign);
  });
}

}  // namespace lathe::cpu
