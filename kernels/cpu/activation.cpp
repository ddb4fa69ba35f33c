// Activations and element-wise sums on the thread team. In f32 the activations are those of vector_math.h and
// row_gradients.h; in double, the oracle, they are the standard library's exp, tanh and erf. Sums and products are
// bound by memory, so they are left to the compiler and have the same bits on every instruction set.
#include "kernels/activation.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/training.h"
#include "tensor/profiler.h"
#include "tensor/threads.h"

namespace lathe::kernel {
namespace {

// ---- the functions and their derivatives, in double ----

struct ValueAndSlope {
  double value, slope;
};

ValueAndSlope evaluate(Activation f, double x) {
  switch (f) {
    case Activation::silu: {
      const double s = 1 / (1 + std::exp(-x));
      return {x * s, s * (1 + x * (1 - s))};
    }
    case Activation::gelu_exact: {
      const double phi = 0.5 * (1 + std::erf(x * 0.70710678118654752440));     // the normal distribution
      const double density = 0.39894228040143267794 * std::exp(-0.5 * x * x);  // its density
      return {x * phi, phi + x * density};
    }
    case Activation::gelu_tanh: break;
  }
  constexpr double k = 0.79788456080286535588, c = 0.044715;  // sqrt(2 / pi)
  const double t = std::tanh(k * (x + c * x * x * x));
  const double bend = 1 - t * t;  // 0 far out, where the polynomial beside it overflows
  const double slope = bend > 0 ? 0.5 * x * bend * k * (1 + 3 * c * x * x) : 0.0;
  return {0.5 * x * (1 + t), 0.5 * (1 + t) + slope};
}

int64_t activation_grain(int64_t n) { return std::max<int64_t>(1, 8192 / std::max<int64_t>(1, n)); }

// f(i) for n elements, shared out between the threads.
template <class F>
void by_elements(const char* name, int64_t bytes, int64_t n, F&& f) {
  const ProfileScope profile([&] { return ProfiledCall{name, bytes * n, n}; });
  parallel_for(n, kGrainElements, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(i);
  });
}

}  // namespace

// ---- forward ----

template <>
void activation(Cpu, float* y, ConstRows<float> x, int64_t rows, int64_t n, Activation f) {
  const ProfileScope profile([&] { return ProfiledCall{"activation", 8 * rows * n, 4 * rows * n}; });
  const auto kernel = cpu::kernels().rows.activation;
  parallel_for(rows, kGrainElements / n + 1, [&](int64_t begin, int64_t end) {
    kernel(y + begin * n, x[begin], x.stride, nullptr, 0, end - begin, n, f);
  });
}

template <>
void gated_activation(Cpu, float* y, ConstRows<float> gate, ConstRows<float> up, int64_t rows, int64_t n,
                      Activation f) {
  const ProfileScope profile([&] { return ProfiledCall{"gated_activation", 12 * rows * n, 5 * rows * n}; });
  const auto kernel = cpu::kernels().rows.activation;
  parallel_for(rows, kGrainElements / n + 1, [&](int64_t begin, int64_t end) {
    kernel(y + begin * n, gate[begin], gate.stride, up[begin], up.stride, end - begin, n, f);
  });
}

// ---- in double ----

template <>
void activation(Cpu, double* y, ConstRows<double> x, int64_t rows, int64_t n, Activation f) {
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t i = 0; i < n; ++i) y[row * n + i] = evaluate(f, x[row][i]).value;
}

template <>
void gated_activation(Cpu, double* y, ConstRows<double> gate, ConstRows<double> up, int64_t rows, int64_t n,
                      Activation f) {
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t i = 0; i < n; ++i) y[row * n + i] = evaluate(f, gate[row][i]).value * up[row][i];
}

// ---- backward ----

template <>
void activation_backward(Cpu, float* dx, const float* dy, ConstRows<float> x, int64_t rows, int64_t n, Activation f) {
  const ProfileScope profile([&] { return ProfiledCall{"activation_backward", 12 * rows * n, 8 * rows * n}; });
  const auto kernel = cpu::training_kernels().rows.activation;
  parallel_for(rows, kGrainElements / n + 1, [&](int64_t begin, int64_t end) {
    kernel({dx + begin * n, n, nullptr, 0}, dy + begin * n, n, {x[begin], x.stride, nullptr, 0}, end - begin, n, f);
  });
}

template <>
void gated_activation_backward(Cpu, Rows<float> dgate, Rows<float> dup, const float* dy, ConstRows<float> gate,
                               ConstRows<float> up, int64_t rows, int64_t n, Activation f) {
  const ProfileScope profile([&] { return ProfiledCall{"gated_activation_backward", 20 * rows * n, 10 * rows * n}; });
  const auto kernel = cpu::training_kernels().rows.activation;
  parallel_for(rows, kGrainElements / n + 1, [&](int64_t begin, int64_t end) {
    kernel({dgate[begin], dgate.stride, dup[begin], dup.stride}, dy + begin * n, n,
           {gate[begin], gate.stride, up[begin], up.stride}, end - begin, n, f);
  });
}

template <>
void activation_backward(Cpu, double* dx, const double* dy, ConstRows<double> x, int64_t rows, int64_t n,
                         Activation f) {
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t i = 0; i < n; ++i) dx[row * n + i] = dy[row * n + i] * evaluate(f, x[row][i]).slope;
}

template <>
void gated_activation_backward(Cpu, Rows<double> dgate, Rows<double> dup, const double* dy, ConstRows<double> gate,
                               ConstRows<double> up, int64_t rows, int64_t n, Activation f) {
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t i = 0; i < n; ++i) {
      const auto [value, slope] = evaluate(f, gate[row][i]);
      const double d = dy[row * n + i];
      dgate[row][i] = d * up[row][i] * slope;
      dup[row][i] = d * value;
    }
}

// ---- sums and products ----

template <class T>
void fill(Cpu, Rows<T> y, double value, int64_t rows, int64_t n) {
  for (int64_t row = 0; row < rows; ++row) std::fill_n(y[row], n, static_cast<T>(value));
}
template <class T>
void add(Cpu, T* y, const T* a, const T* b, int64_t n) {
  by_elements("add", 3 * int64_t{sizeof(T)}, n, [=](int64_t i) { y[i] = a[i] + b[i]; });
}
template <class T>
void put_rows(Cpu, Rows<T> y, ConstRows<T> x, int64_t rows, int64_t n, bool accumulate) {
  const ProfileScope profile([&] {
    return ProfiledCall{"put_rows", (accumulate ? 3 : 2) * int64_t{sizeof(T)} * rows * n, accumulate ? rows * n : 0};
  });
  parallel_for(rows, activation_grain(n), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      if (accumulate)
        for (int64_t i = 0; i < n; ++i) y[row][i] += x[row][i];
      else
        std::copy_n(x[row], n, y[row]);
  });
}
template <class T>
void multiply(Cpu, T* y, const T* a, const T* b, int64_t n) {
  by_elements("multiply", 3 * int64_t{sizeof(T)}, n, [=](int64_t i) { y[i] = a[i] * b[i]; });
}
template <class T>
void scale(Cpu, T* y, const T* a, double factor, int64_t n) {
  by_elements("scale", 2 * int64_t{sizeof(T)}, n,
              [=, factor = static_cast<T>(factor)](int64_t i) { y[i] = factor * a[i]; });
}

#define LATHE_INSTANTIATE(T)                                                  \
  template void fill(Cpu, Rows<T>, double, int64_t, int64_t);                 \
  template void add(Cpu, T*, const T*, const T*, int64_t);                    \
  template void put_rows(Cpu, Rows<T>, ConstRows<T>, int64_t, int64_t, bool); \
  template void multiply(Cpu, T*, const T*, const T*, int64_t);               \
  template void scale(Cpu, T*, const T*, double, int64_t);
LATHE_INSTANTIATE(float)
LATHE_INSTANTIATE(double)
#undef LATHE_INSTANTIATE

}  // namespace lathe::kernel
