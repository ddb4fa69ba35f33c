// Activations and element-wise sums on the thread team; the activations themselves are in vector_math.h. Sums and
// products are bound by memory, so they are left to the compiler and have the same bits on every instruction set.
#include "kernels/activation.h"

#include "kernels/cpu/dispatch.h"
#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::cpu {

void activation(float* y, const float* x, int64_t ldx, int64_t rows, int64_t n, Activation f) {
  const ProfileScope profile([&] { return ProfiledCall{"activation", 8 * rows * n, 4 * rows * n}; });
  const auto kernel = kernels().rows.activation;
  parallel_for(rows, kGrainElements / n + 1, [&](int64_t begin, int64_t end) {
    kernel(y + begin * n, x + begin * ldx, ldx, nullptr, 0, end - begin, n, f);
  });
}

void gated_activation(float* y, const float* gate, int64_t ldg, const float* up, int64_t ldu, int64_t rows, int64_t n,
                      Activation f) {
  const ProfileScope profile([&] { return ProfiledCall{"gated_activation", 12 * rows * n, 5 * rows * n}; });
  const auto kernel = kernels().rows.activation;
  parallel_for(rows, kGrainElements / n + 1, [&](int64_t begin, int64_t end) {
    kernel(y + begin * n, gate + begin * ldg, ldg, up + begin * ldu, ldu, end - begin, n, f);
  });
}

void add(float* y, const float* a, const float* b, int64_t n) {
  const ProfileScope profile([&] { return ProfiledCall{"add", 12 * n, n}; });
  parallel_for(n, kGrainElements, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = a[i] + b[i];
  });
}

void multiply(float* y, const float* a, const float* b, int64_t n) {
  const ProfileScope profile([&] { return ProfiledCall{"multiply", 12 * n, n}; });
  parallel_for(n, kGrainElements, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = a[i] * b[i];
  });
}

void scale(float* y, const float* a, float factor, int64_t n) {
  const ProfileScope profile([&] { return ProfiledCall{"scale", 8 * n, n}; });
  parallel_for(n, kGrainElements, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = factor * a[i];
  });
}

}  // namespace lathe::cpu
