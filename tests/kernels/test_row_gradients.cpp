// Gradients of norms and activations in f32 against their loops in double, and rows of a softmax; the laws of bits.
#include <cmath>

#include "kernels/activation.h"
#include "kernels/cross_entropy.h"
#include "kernels/norm.h"
#include "tests/kernels/kernel_cases.h"

using namespace lathe;
using namespace lathe::test;

namespace {

constexpr Activation kActivations[] = {Activation::silu, Activation::gelu_exact, Activation::gelu_tanh};

std::vector<double> wide(const std::vector<float>& v) { return {v.begin(), v.end()}; }

// The largest difference from `exact`, in half ulps of its largest.
double deviation(const float* y, const std::vector<double>& exact) {
  double most = 0, scale = 1e-30;
  for (size_t i = 0; i < exact.size(); ++i) {
    most = worse(most, std::abs(static_cast<double>(y[i]) - exact[i]));
    scale = std::max(scale, std::abs(exact[i]));
  }
  return most / (scale * kEpsilon);
}

template <class T>
struct NormResult {
  std::vector<T> dx, dw, db;
};

// Of layer_norm where `layer`, else of rms_norm with an offset; onto ones where `accumulate`.
template <class T>
NormResult<T> norm_gradients(bool layer, bool accumulate, int64_t rows, int64_t n) {
  const auto values = [](int64_t count, unsigned seed) {
    const std::vector<float> v = random_floats(count, seed);
    return std::vector<T>(v.begin(), v.end());
  };
  const int64_t ld = n + 3;
  const std::vector<T> x = values(rows * ld, 1), w = values(n, 2), dy = values(rows * n, 3);
  std::vector<T> y(static_cast<size_t>(rows * n)), mean(static_cast<size_t>(rows)), rstd(mean.size());
  NormResult<T> r{std::vector<T>(y.size(), T(1)), std::vector<T>(w.size(), T(1)), std::vector<T>(w.size(), T(1))};
  if (layer) {
    kernel::layer_norm<T>(Cpu{}, y.data(), mean.data(), rstd.data(), {x.data(), ld}, w.data(), nullptr, rows, n, 1e-5);
    kernel::layer_norm_backward<T>(Cpu{}, r.dx.data(), accumulate, r.dw.data(), r.db.data(), dy.data(), {x.data(), ld},
                                   w.data(), mean.data(), rstd.data(), rows, n);
  } else {
    kernel::rms_norm<T>(Cpu{}, y.data(), rstd.data(), {x.data(), ld}, w.data(), rows, n, 1e-5, 1.0);
    kernel::rms_norm_backward<T>(Cpu{}, r.dx.data(), accumulate, r.dw.data(), dy.data(), {x.data(), ld}, w.data(),
                                 rstd.data(), rows, n, 1.0);
  }
  return r;
}

}  // namespace

TEST_CASE("gradients of norms agree with double, on any number of threads with the same bits") {
  for (const bool layer : {false, true})
    for (const bool accumulate : {false, true})
      for (const int64_t rows : {1, 5, 70})
        for (const int64_t n : {7, 16, 100, 576}) {
          const NormResult<double> exact = norm_gradients<double>(layer, accumulate, rows, n);
          for_each_isa([&](CpuIsa) {
            INFO((layer ? "layer_norm " : "rms_norm ") << rows << " x " << n);
            const NormResult<float> r = norm_gradients<float>(layer, accumulate, rows, n);
            // Sums of n, or of all rows, in 16 lanes or in pieces, and a handful of roundings of each term.
            CHECK(deviation(r.dx.data(), exact.dx) <= 32 + static_cast<double>(n) / 16);
            CHECK(deviation(r.dw.data(), exact.dw) <= 32 + static_cast<double>(rows));
            if (layer) CHECK(deviation(r.db.data(), exact.db) <= 32 + static_cast<double>(rows));
            const Threads threads(3);
            const NormResult<float> again = norm_gradients<float>(layer, accumulate, rows, n);
            CHECK((again.dx == r.dx && again.dw == r.dw && again.db == r.db));
          });
        }
}

TEST_CASE("gradients of activations agree with double, gated and not, of strided rows") {
  std::vector<float> x;
  for (float v = -40.0f; v <= 40.0f; v += 0.0137f) x.push_back(v);
  const int64_t n = static_cast<int64_t>(x.size());
  const std::vector<float> up = random_floats(n, 1), dy = random_floats(n, 2);
  const std::vector<double> wide_x = wide(x), wide_up = wide(up), wide_dy = wide(dy);
  for (const Activation f : kActivations) {
    std::vector<double> dx(x.size()), dgate(x.size()), dup(x.size());
    kernel::activation_backward<double>(Cpu{}, dx.data(), wide_dy.data(), {wide_x.data(), n}, 1, n, f);
    kernel::gated_activation_backward<double>(Cpu{}, {dgate.data(), n}, {dup.data(), n}, wide_dy.data(),
                                              {wide_x.data(), n}, {wide_up.data(), n}, 1, n, f);
    for_each_isa([&](CpuIsa) {
      INFO("activation " << static_cast<int>(f));
      Guarded y(n), gate(n), gated(n);
      kernel::activation_backward<float>(Cpu{}, y.data(), dy.data(), {x.data(), n}, 1, n, f);
      kernel::gated_activation_backward<float>(Cpu{}, {gate.data(), n}, {gated.data(), n}, dy.data(), {x.data(), n},
                                               {up.data(), n}, 1, n, f);
      CHECK((y.intact() && gate.intact() && gated.intact()));
      // Slopes are of the size of 1 and made of sigmoids and polynomials of up to some ten roundings, dy of up to 4.
      CHECK(deviation(y.data(), dx) <= 32);
      CHECK(deviation(gate.data(), dgate) <= 32);
      CHECK(deviation(gated.data(), dup) <= 64);
    });
  }
  // Two rows out of wider ones, into wider ones.
  std::vector<float> wider(2 * 50, 7.0f), plain(2 * 20), flat(2 * 20);
  for (int64_t i = 0; i < 40; ++i) flat[static_cast<size_t>(i)] = x[static_cast<size_t>(2000 + i / 20 * 100 + i % 20)];
  kernel::gated_activation_backward<float>(Cpu{}, {wider.data(), 50}, {wider.data() + 25, 50}, dy.data(),
                                           {x.data() + 2000, 100}, {up.data(), 60}, 2, 20, Activation::silu);
  kernel::activation_backward<float>(Cpu{}, plain.data(), dy.data(), {flat.data(), 20}, 2, 20, Activation::silu);
  for (size_t r = 0; r < 2; ++r)
    for (size_t i = 0; i < 20; ++i) {
      const float expected = plain[r * 20 + i] * up[r * 60 + i];
      CHECK(std::abs(wider[r * 50 + i] - expected) <= 2 * static_cast<float>(kEpsilon) * std::abs(expected));
    }
  CHECK((wider[20] == 7.0f && wider[45] == 7.0f));
}

TEST_CASE("slopes of activations of large arguments are 0 or 1") {
  const float x[] = {-3e38f, -1e20f, -200.0f, 200.0f, 1e20f, 3e38f};
  const std::vector<float> ones(6, 1.0f);
  for (const Activation f : kActivations)
    for_each_isa([&](CpuIsa) {
      Guarded y(6);
      kernel::activation_backward<float>(Cpu{}, y.data(), ones.data(), {x, 6}, 1, 6, f);
      for (int64_t i = 0; i < 6; ++i) CHECK(y[i] == (i < 3 ? 0.0f : 1.0f));
    });
}

TEST_CASE("cross-entropy and its gradient agree with double, in one piece or in several") {
  constexpr int64_t n = 5, width = 1300;
  const std::vector<float> logits = random_floats(n * width, 1, 5.0f);
  const std::vector<double> exact_logits = wide(logits);
  const std::vector<int32_t> targets = {3, -100, 1299, 700, 0};
  const auto loss_of = [&]<class T>(const std::vector<T>& x, int64_t chunk, std::vector<T>& gradient) {
    std::vector<T> maximum(n), target_logit(n), logsumexp(n);
    std::vector<double> sum(n);
    const RunningLogsumexp<T> state{maximum.data(), sum.data(), target_logit.data()};
    kernel::logsumexp_start<T>(Cpu{}, state, n);
    for (int64_t first = 0; first < width; first += chunk)
      kernel::logsumexp_update<T>(Cpu{}, state, {x.data() + first, width}, targets.data(), n, first,
                                  std::min(chunk, width - first));
    T loss, one = 1;
    double factor;
    kernel::cross_entropy<T>(Cpu{}, &loss, &factor, logsumexp.data(), state, targets.data(), n, 0.0);
    gradient.resize(n * width);
    kernel::cross_entropy_backward<T>(Cpu{}, gradient.data(), {x.data(), width}, logsumexp.data(), targets.data(), n, 0,
                                      width, &one, &factor);
    return static_cast<double>(loss);
  };
  std::vector<double> exact_gradient;
  const double exact = loss_of(exact_logits, width, exact_gradient);
  for_each_isa([&](CpuIsa) {
    for (const int64_t chunk : {width, int64_t{512}, int64_t{37}}) {
      std::vector<float> gradient;
      const double loss = loss_of(logits, chunk, gradient);
      CHECK(std::abs(loss - exact) <= 8 * kEpsilon * exact);
      CHECK(deviation(gradient.data(), exact_gradient) <= 64);  // exponentials of differences of up to 40
    }
  });
}
