// Norms on the thread team; the rows themselves are in row_kernels.h.
#include "kernels/norm.h"

#include "kernels/cpu/dispatch.h"
#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::cpu {

void rms_norm(float* y, float* rstd, const float* x, int64_t ldx, const float* w, int64_t rows, int64_t n, float eps,
              float offset) {
  const ProfileScope profile([&] { return ProfiledCall{"rms_norm", 8 * rows * n, 4 * rows * n}; });
  const auto kernel = kernels().rows.rms_norm;
  parallel_for(rows, kGrainElements / n + 1, [&](int64_t begin, int64_t end) {
    kernel(y + begin * n, rstd != nullptr ? rstd + begin : nullptr, x + begin * ldx, ldx, w, end - begin, n, eps,
           offset);
  });
}

void layer_norm(float* y, float* mean, float* rstd, const float* x, int64_t ldx, const float* w, const float* b,
                int64_t rows, int64_t n, float eps) {
  const ProfileScope profile([&] { return ProfiledCall{"layer_norm", 8 * rows * n, 7 * rows * n}; });
  const auto kernel = kernels().rows.layer_norm;
  parallel_for(rows, kGrainElements / n + 1, [&](int64_t begin, int64_t end) {
    kernel(y + begin * n, mean != nullptr ? mean + begin : nullptr, rstd != nullptr ? rstd + begin : nullptr,
           x + begin * ldx, ldx, w, b, end - begin, n, eps);
  });
}

void add_rms_norm(float* sum, float* y, const float* a, const float* b, const float* w, int64_t rows, int64_t n,
                  float eps, float offset) {
  const ProfileScope profile([&] { return ProfiledCall{"add_rms_norm", 16 * rows * n, 5 * rows * n}; });
  const auto kernel = kernels().rows.add_rms_norm;
  parallel_for(rows, kGrainElements / n + 1, [&](int64_t begin, int64_t end) {
    const int64_t at = begin * n;
    kernel(sum + at, y + at, a + at, b + at, w, end - begin, n, eps, offset);
  });
}

void add_layer_norm(float* sum, float* y, const float* a, const float* b, const float* w, const float* bias,
                    int64_t rows, int64_t n, float eps) {
  const ProfileScope profile([&] { return ProfiledCall{"add_layer_norm", 16 * rows * n, 8 * rows * n}; });
  const auto kernel = kernels().rows.add_layer_norm;
  parallel_for(rows, kGrainElements / n + 1, [&](int64_t begin, int64_t end) {
    const int64_t at = begin * n;
    kernel(sum + at, y + at, a + at, b + at, w, bias, end - begin, n, eps);
  });
}

}  // namespace lathe::cpu
