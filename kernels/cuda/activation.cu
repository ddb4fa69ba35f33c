// Activations and element-wise sums on a CUDA device: a thread takes four elements.
//
// Limits derived at 3.0 TB/s, bytes an element: activation 8, backward 12, gated 12, its backward 20, add and multiply
// 12, scale and put_rows 8 (12 where added to), fill 4. (65,536, 3,072): gated 0.81 ms, its backward 1.34 ms. Some 40
// instructions an element are far from the 110 that would bind. Not measured yet: no GPU has run it.
#include "kernels/activation.h"
#include "kernels/cuda/activation_values.h"
#include "kernels/cuda/over_grid.h"

namespace lathe::kernel {
namespace {

template <Activation kActivation>
struct Activate {
  __device__ float operator()(float x) const { return activate(kActivation, x).value; }
  __device__ float operator()(float gate, float up) const { return activate(kActivation, gate).value * up; }
};
template <Activation kActivation>
struct ActivateBackward {
  __device__ float operator()(float dy, float x) const { return dy * activate(kActivation, x).slope; }
};
template <Activation kActivation, bool kVector, class T>
struct GatedBackward {
  Rows<T> dgate, dup;
  Rows<const T> dy, gate, up;
  int64_t n;

  __device__ void operator()(int64_t row, int64_t item) const {
    const int64_t i = 4 * item, left = n - i;
    const Four d = load_four<kVector>(row_of(dy, row) + i, left), g = load_four<kVector>(row_of(gate, row) + i, left);
    const Four u = load_four<kVector>(row_of(up, row) + i, left);
    Four dg, du;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const ActivationValue f = activate(kActivation, g.v[j]);
      dg.v[j] = d.v[j] * u.v[j] * f.slope;
      du.v[j] = d.v[j] * f.value;
    }
    store_four<kVector>(row_of(dgate, row) + i, dg, left);
    store_four<kVector>(row_of(dup, row) + i, du, left);
  }
};

// launch(f as a constant)
template <class F>
void with_activation(Activation f, F&& launch) {
  switch (f) {
    case Activation::silu: return launch(std::integral_constant<Activation, Activation::silu>());
    case Activation::gelu_exact: return launch(std::integral_constant<Activation, Activation::gelu_exact>());
    case Activation::gelu_tanh: return launch(std::integral_constant<Activation, Activation::gelu_tanh>());
  }
}

struct Constant {
  float value;
  __device__ float operator()() const { return value; }
};
struct Identity {
  __device__ float operator()(float x) const { return x; }
};
struct Sum2 {
  __device__ float operator()(float a, float b) const { return a + b; }
};
struct Product {
  __device__ float operator()(float a, float b) const { return a * b; }
};
struct Scaled {
  float factor;
  __device__ float operator()(float a) const { return factor * a; }
};

template <class T>
Rows<const T> flat(const T* x, int64_t n) {
  return {x, n};
}

}  // namespace

template <class T>
void activation(Cuda on, T* y, ConstRows<T> x, int64_t rows, int64_t n, Activation f) {
  with_activation(f, [&](auto a) { map_rows(on, Rows<T>(y, n), rows, n, Activate<decltype(a)::value>(), x); });
}

template <class T>
void activation_backward(Cuda on, T* dx, const T* dy, ConstRows<T> x, int64_t rows, int64_t n, Activation f) {
  with_activation(f, [&](auto a) {
    map_rows(on, Rows<T>(dx, n), rows, n, ActivateBackward<decltype(a)::value>(), flat(dy, n), x);
  });
}

template <class T>
void gated_activation(Cuda on, T* y, ConstRows<T> gate, ConstRows<T> up, int64_t rows, int64_t n, Activation f) {
  with_activation(f, [&](auto a) { map_rows(on, Rows<T>(y, n), rows, n, Activate<decltype(a)::value>(), gate, up); });
}

template <class T>
void gated_activation_backward(Cuda on, Rows<T> dgate, Rows<T> dup, const T* dy, ConstRows<T> gate, ConstRows<T> up,
                               int64_t rows, int64_t n, Activation f) {
  const Rows<const T> d = flat(dy, n);
  const bool aligned =
      fours_aligned(dgate) && fours_aligned(dup) && fours_aligned(d) && fours_aligned(gate) && fours_aligned(up);
  with_activation(f, [&](auto a) {
    constexpr Activation kActivation = decltype(a)::value;
    if (aligned)
      over_grid(on, rows, ceil_divide(n, 4), GatedBackward<kActivation, true, T>{dgate, dup, d, gate, up, n});
    else
      over_grid(on, rows, ceil_divide(n, 4), GatedBackward<kActivation, false, T>{dgate, dup, d, gate, up, n});
  });
}

template <class T>
void fill(Cuda on, Rows<T> y, double value, int64_t rows, int64_t n) {
  map_rows(on, y, rows, n, Constant{static_cast<float>(value)});
}
template <class T>
void add(Cuda on, T* y, const T* a, const T* b, int64_t n) {
  map_rows(on, Rows<T>(y, n), 1, n, Sum2(), flat(a, n), flat(b, n));
}
template <class T>
void put_rows(Cuda on, Rows<T> y, ConstRows<T> x, int64_t rows, int64_t n, bool accumulate) {
  if (accumulate)
    map_rows(on, y, rows, n, Sum2(), Rows<const T>(y), x);
  else
    map_rows(on, y, rows, n, Identity(), x);
}
template <class T>
void multiply(Cuda on, T* y, const T* a, const T* b, int64_t n) {
  map_rows(on, Rows<T>(y, n), 1, n, Product(), flat(a, n), flat(b, n));
}
template <class T>
void scale(Cuda on, T* y, const T* a, double factor, int64_t n) {
  map_rows(on, Rows<T>(y, n), 1, n, Scaled{static_cast<float>(factor)}, flat(a, n));
}

template void activation(Cuda, float*, ConstRows<float>, int64_t, int64_t, Activation);
template void activation_backward(Cuda, float*, const float*, ConstRows<float>, int64_t, int64_t, Activation);
template void gated_activation(Cuda, float*, ConstRows<float>, ConstRows<float>, int64_t, int64_t, Activation);
template void gated_activation_backward(Cuda, Rows<float>, Rows<float>, const float*, ConstRows<float>,
                                        ConstRows<float>, int64_t, int64_t, Activation);
template void fill(Cuda, Rows<float>, double, int64_t, int64_t);
template void add(Cuda, float*, const float*, const float*, int64_t);
template void put_rows(Cuda, Rows<float>, ConstRows<float>, int64_t, int64_t, bool);
template void multiply(Cuda, float*, const float*, const float*, int64_t);
template void scale(Cuda, float*, const float*, double, int64_t);

}  // namespace lathe::kernel
