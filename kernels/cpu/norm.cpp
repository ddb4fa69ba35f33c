// Norms on the thread team: in f32 the rows are those of row_kernels.h and row_gradients.h; in double, the oracle, they
// are plain loops.
//
// Gradients, with z the normalised x and g = dy * weight:
//   rms_norm:    dx = rstd (g - z mean(g z))
//   layer_norm:  dx = rstd (g - mean(g) - z mean(g z))
#include "kernels/norm.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/training.h"
#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::kernel {
namespace {

int64_t norm_grain(int64_t n) { return std::max<int64_t>(1, kGrainElements / std::max<int64_t>(1, n)); }

}  // namespace

// ---- forward ----

template <>
void rms_norm(Cpu, float* y, float* rstd, ConstRows<float> x, const float* w, int64_t rows, int64_t n, double eps,
              double offset) {
  const ProfileScope profile([&] { return ProfiledCall{"rms_norm", 8 * rows * n, 4 * rows * n}; });
  const auto kernel = cpu::kernels().rows.rms_norm;
  parallel_for(rows, kGrainElements / n + 1, [&](int64_t begin, int64_t end) {
    kernel(y + begin * n, rstd != nullptr ? rstd + begin : nullptr, x[begin], x.stride, w, end - begin, n,
           static_cast<float>(eps), static_cast<float>(offset));
  });
}

template <>
void layer_norm(Cpu, float* y, float* mean, float* rstd, ConstRows<float> x, const float* w, const float* b,
                int64_t rows, int64_t n, double eps) {
  const ProfileScope profile([&] { return ProfiledCall{"layer_norm", 8 * rows * n, 7 * rows * n}; });
  const auto kernel = cpu::kernels().rows.layer_norm;
  parallel_for(rows, kGrainElements / n + 1, [&](int64_t begin, int64_t end) {
    kernel(y + begin * n, mean != nullptr ? mean + begin : nullptr, rstd != nullptr ? rstd + begin : nullptr, x[begin],
           x.stride, w, b, end - begin, n, static_cast<float>(eps));
  });
}

void add_rms_norm(Cpu, float* sum, float* y, float* rstd, const float* a, const float* b, const float* w, int64_t rows,
                  int64_t n, double eps, double offset) {
  const ProfileScope profile([&] { return ProfiledCall{"add_rms_norm", 16 * rows * n, 5 * rows * n}; });
  const auto kernel = cpu::kernels().rows.add_rms_norm;
  parallel_for(rows, kGrainElements / n + 1, [&](int64_t begin, int64_t end) {
    const int64_t at = begin * n;
    kernel(sum + at, y + at, rstd != nullptr ? rstd + begin : nullptr, a + at, b + at, w, end - begin, n,
           static_cast<float>(eps), static_cast<float>(offset));
  });
}

void add_layer_norm(Cpu, float* sum, float* y, float* mean, float* rstd, const float* a, const float* b, const float* w,
                    const float* bias, int64_t rows, int64_t n, double eps) {
  const ProfileScope profile([&] { return ProfiledCall{"add_layer_norm", 16 * rows * n, 8 * rows * n}; });
  const auto kernel = cpu::kernels().rows.add_layer_norm;
  parallel_for(rows, kGrainElements / n + 1, [&](int64_t begin, int64_t end) {
    const int64_t at = begin * n;
    kernel(sum + at, y + at, mean != nullptr ? mean + begin : nullptr, rstd != nullptr ? rstd + begin : nullptr, a + at,
           b + at, w, bias, end - begin, n, static_cast<float>(eps));
  });
}

// ---- in double ----

template <>
void rms_norm(Cpu, double* y, double* rstd, ConstRows<double> x, const double* w, int64_t rows, int64_t n, double eps,
              double offset) {
  for (int64_t row = 0; row < rows; ++row) {
    const double* in = x[row];
    double squares = 0;
    for (int64_t i = 0; i < n; ++i) squares += in[i] * in[i];
    const double r = 1 / std::sqrt(squares / static_cast<double>(n) + eps);
    for (int64_t i = 0; i < n; ++i) y[row * n + i] = in[i] * r * (w[i] + offset);
    if (rstd) rstd[row] = r;
  }
}

template <>
void layer_norm(Cpu, double* y, double* mean, double* rstd, ConstRows<double> x, const double* w, const double* b,
                int64_t rows, int64_t n, double eps) {
  for (int64_t row = 0; row < rows; ++row) {
    const double* in = x[row];
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; ++i) sum += in[i];
    const double m = sum / static_cast<double>(n);
    for (int64_t i = 0; i < n; ++i) squares += (in[i] - m) * (in[i] - m);
    const double r = 1 / std::sqrt(squares / static_cast<double>(n) + eps);
    for (int64_t i = 0; i < n; ++i) y[row * n + i] = (in[i] - m) * r * w[i] + (b ? b[i] : 0);
    if (mean) mean[row] = m;
    if (rstd) rstd[row] = r;
  }
}

// ---- backward ----

namespace {

constexpr int64_t kPieces = 32;  // of the rows: each has sums of its own, which are added in order

// backward(to, begin, end) for pieces of the rows, `to` being where their gradients go.
template <class F>
void by_pieces(const cpu::NormGradients& to, int64_t rows, int64_t n, F&& backward) {
  const int64_t pieces = std::min(kPieces, rows), wide = (n + 15) / 16 * 16;
  float* const sums = cpu::scratch(cpu::ScratchOf::rows, 2 * kPieces * wide);
  parallel_for(pieces, norm_grain(rows * n / std::max<int64_t>(1, pieces)), [&](int64_t first, int64_t last) {
    for (int64_t piece = first; piece < last; ++piece) {
      const int64_t begin = rows * piece / pieces, end = rows * (piece + 1) / pieces;
      cpu::NormGradients part = to;
      if (to.dx != nullptr) part.dx += begin * n;
      if (to.dw != nullptr) part.dw = sums + 2 * piece * wide;
      if (to.db != nullptr) part.db = sums + (2 * piece + 1) * wide;
      std::fill_n(sums + 2 * piece * wide, 2 * wide, 0.0f);
      backward(part, begin, end);
    }
  });
  const auto gather = [&](float* total, const float* parts) {
    if (total == nullptr) return;
    for (int64_t piece = 0; piece < pieces; ++piece)
      for (int64_t i = 0; i < n; ++i) total[i] += parts[2 * piece * wide + i];
  };
  gather(to.dw, sums);
  gather(to.db, sums + wide);
}

ProfiledCall norm_backward_call(const char* name, int64_t bytes, const void* dx, bool accumulate, int64_t elements) {
  return {name, bytes * (dx == nullptr ? 2 : accumulate ? 4 : 3) * elements, (dx != nullptr ? 14 : 5) * elements};
}

}  // namespace

template <>
void rms_norm_backward(Cpu, float* dx, bool accumulate, float* dw, const float* dy, ConstRows<float> x, const float* w,
                       const float* rstd, int64_t rows, int64_t n, double offset, float*) {
  const ProfileScope profile([&] { return norm_backward_call("rms_norm_backward", 4, dx, accumulate, rows * n); });
  const auto kernel = cpu::training_kernels().rows.rms_norm;
  by_pieces({dx, accumulate, dw, nullptr}, rows, n, [&](const cpu::NormGradients& to, int64_t begin, int64_t end) {
    kernel(to, dy + begin * n, {x[begin], x.stride, w, nullptr, rstd + begin, static_cast<float>(offset)}, end - begin,
           n);
  });
}

template <>
void layer_norm_backward(Cpu, float* dx, bool accumulate, float* dw, float* db, const float* dy, ConstRows<float> x,
                         const float* w, const float* mean, const float* rstd, int64_t rows, int64_t n, float*) {
  const ProfileScope profile([&] { return norm_backward_call("layer_norm_backward", 4, dx, accumulate, rows * n); });
  const auto kernel = cpu::training_kernels().rows.layer_norm;
  by_pieces({dx, accumulate, dw, db}, rows, n, [&](const cpu::NormGradients& to, int64_t begin, int64_t end) {
    kernel(to, dy + begin * n, {x[begin], x.stride, w, mean + begin, rstd + begin, 0.0f}, end - begin, n);
  });
}

template <>
void rms_norm_backward(Cpu, double* dx, bool accumulate, double* dw, const double* dy, ConstRows<double> x,
                       const double* w, const double* rstd, int64_t rows, int64_t n, double offset, double*) {
  const ProfileScope profile([&] { return norm_backward_call("rms_norm_backward", 8, dx, accumulate, rows * n); });
  for (int64_t row = 0; row < rows; ++row) {
    const double *in = x[row], *d = dy + row * n, r = rstd[row];
    double dot = 0;
    for (int64_t i = 0; i < n; ++i) dot += d[i] * (w[i] + offset) * in[i];
    const double mean = dot * r / static_cast<double>(n);
    for (int64_t i = 0; i < n; ++i) {
      if (dx != nullptr)
        dx[row * n + i] = (accumulate ? dx[row * n + i] : 0) + r * (d[i] * (w[i] + offset) - in[i] * r * mean);
      if (dw != nullptr) dw[i] += d[i] * in[i] * r;
    }
  }
}

template <>
void layer_norm_backward(Cpu, double* dx, bool accumulate, double* dw, double* db, const double* dy,
                         ConstRows<double> x, const double* w, const double* mean, const double* rstd, int64_t rows,
                         int64_t n, double*) {
  const ProfileScope profile([&] { return norm_backward_call("layer_norm_backward", 8, dx, accumulate, rows * n); });
  for (int64_t row = 0; row < rows; ++row) {
    const double *in = x[row], *d = dy + row * n, r = rstd[row], m = mean[row];
    double sum = 0, dot = 0;
    for (int64_t i = 0; i < n; ++i) {
      sum += d[i] * w[i];
      dot += d[i] * w[i] * (in[i] - m);
    }
    const double mean_g = sum / static_cast<double>(n), mean_gz = dot * r / static_cast<double>(n);
    for (int64_t i = 0; i < n; ++i) {
      const double z = (in[i] - m) * r;
      if (dx != nullptr)
        dx[row * n + i] = (accumulate ? dx[row * n + i] : 0) + r * (d[i] * w[i] - mean_g - z * mean_gz);
      if (dw != nullptr) dw[i] += d[i] * z;
      if (db != nullptr) db[i] += d[i];
    }
  }
}

}  // namespace lathe::kernel
