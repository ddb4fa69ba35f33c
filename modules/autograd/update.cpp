#include "autograd/update.h"

#include <cmath>

#include "autograd/dispatch.h"
#include "kernels/activation.h"
#include "kernels/gemm.h"

namespace lathe {
namespace {

CodedState coded(const char* operation, const CodedTensor& state, int64_t n) {
  check(n % kStateBlock == 0 && state.codes.elements() * 4 == n && state.scales.elements() * kStateBlock == n,
        operation, "{} elements have codes {} and scales {}", n, state.codes, state.scales);
  return {static_cast<int8_t*>(state.codes.raw()), state.scales.data<float>()};
}

}  // namespace

void adamw_step(const Tensor& w, const Tensor& m, const Tensor& v, const Tensor& g, const AdamwStep& step) {
  check(m.elements() == w.elements() && v.elements() == w.elements() && g.elements() == w.elements(), "adamw_step",
        "weights {}, states {} and {}, gradient {} must be alike", w, m, v, g);
  dispatch_device("adamw_step", w, [&](auto on) {
    kernel::adamw_step(on, w.data<float>(), m.data<float>(), v.data<float>(), g.data<float>(), w.elements(), step);
  });
}

void sgd_step(const Tensor& w, const Tensor& m, const Tensor& g, const SgdStep& step) {
  check(g.elements() == w.elements() && (!m.defined() || m.elements() == w.elements()), "sgd_step",
        "weights {} and gradient {} must be alike, the momentum too", w, g);
  dispatch_device("sgd_step", w, [&](auto on) {
    kernel::sgd_step(on, w.data<float>(), data_or_null<float>(m), g.data<float>(), w.elements(), step);
  });
}

// Coded states have kernels on the CPU alone: an optimizer refuses them elsewhere.
void adamw_step(const Tensor& w, const CodedTensor& m, const CodedTensor& v, const Tensor& g, const AdamwStep& step,
                const StateDraws& draws) {
  dispatch_device("adamw_step", w, [&]([[maybe_unused]] auto on) {
    if constexpr (std::is_same_v<decltype(on), Cpu>) {
      const int64_t n = w.elements();
      kernel::adamw_step(on, w.data<float>(), coded("adamw_step", m, n), coded("adamw_step", v, n), g.data<float>(), n,
                         step, draws);
    }
  });
}

void sgd_step(const Tensor& w, const CodedTensor& m, const Tensor& g, const SgdStep& step, const StateDraws& draws) {
  dispatch_device("sgd_step", w, [&]([[maybe_unused]] auto on) {
    if constexpr (std::is_same_v<decltype(on), Cpu>) {
      const int64_t n = w.elements();
      kernel::sgd_step(on, w.data<float>(), coded("sgd_step", m, n), g.data<float>(), n, step, draws);
    }
  });
}

Tensor decode_state(const CodedTensor& state, StateMap map) {
  Tensor x = Tensor::empty({4 * state.codes.elements()}, DType::f32, state.codes.device());
  dispatch_device("decode_state", x, [&]([[maybe_unused]] auto on) {
    if constexpr (std::is_same_v<decltype(on), Cpu>) {
      kernel::decode_state(on, x.data<float>(), coded("decode_state", state, x.elements()), x.elements(), map);
    }
  });
  return x;
}

void encode_state(const CodedTensor& state, const Tensor& x, StateMap map, const StateDraws& draws) {
  dispatch_device("encode_state", x, [&]([[maybe_unused]] auto on) {
    if constexpr (std::is_same_v<decltype(on), Cpu>) {
      kernel::encode_state(on, coded("encode_state", state, x.elements()), x.data<float>(), x.elements(), map, draws);
    }
  });
}

void fill(const Tensor& y, double value) {
  dispatch_device("fill", y, [&](auto on) {
    kernel::fill<float>(on, {y.data<float>(), y.elements()}, value, 1, y.elements());
  });
}

void copy(const Tensor& to, const Tensor& from) {
  check(to.elements() == from.elements(), "copy", "{} and {} must be alike", to, from);
  dispatch_device("copy", to,
                  [&](auto on) { kernel::scale(on, to.data<float>(), from.data<float>(), 1.0, to.elements()); });
}

void scale_in_place(const Tensor& y, double factor) {
  dispatch_device("scale", y,
                  [&](auto on) { kernel::scale(on, y.data<float>(), y.data<float>(), factor, y.elements()); });
}

void combine(const Tensor& y, double beta, const Tensor& x, double alpha) {
  check(x.elements() == y.elements(), "combine", "{} and {} must be alike", y, x);
  const Tensor scaled = like(x);
  scale_in_place(y, beta);
  dispatch_device("combine", y, [&](auto on) {
    kernel::scale(on, scaled.data<float>(), x.data<float>(), alpha, x.elements());
    kernel::add(on, y.data<float>(), y.data<float>(), scaled.data<float>(), y.elements());
  });
}

Tensor matrix_product(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b) {
  const int64_t m = a.dim(transpose_a ? 1 : 0), k = a.dim(transpose_a ? 0 : 1), n = b.dim(transpose_b ? 0 : 1);
  check(b.dim(transpose_b ? 1 : 0) == k, "matrix_product", "{} does not fit {}", a, b);
  Tensor c = Tensor::empty({m, n}, DType::f32, a.device());
  dispatch_device("matrix_product", c, [&](auto on) {
    kernel::gemm<float>(on, tokens_of<float>(c), tokens_of<float>(a), transpose_a, tokens_of<float>(b), transpose_b, m,
                        n, k, false);
  });
  return c;
}

double norm(const Tensor& x) {
  double sum = 0.0;
  dispatch_device("norm", x, [&](auto on) {
    if constexpr (std::is_same_v<decltype(on), Cpu>) {
      sum = kernel::sum_of_squares(on, x.data<float>(), x.elements());
    } else {
      const Tensor sums = Tensor::empty({kernel::kSumsOfSquares}, DType::f64, x.device());
      kernel::sum_of_squares(on, sums.data<double>(), x.data<float>(), x.elements());
      sum = *sums.row_range(0, 1).to(Device{}).host<double>();
    }
  });
  return std::sqrt(sum);
}

}  // namespace lathe
