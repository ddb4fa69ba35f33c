// Steps of optimizers and sums of squares on a CUDA device against the CPU.
#include "kernels/optimizer.h"
#include "tests/cuda/cuda_cases.h"

using namespace lathe;
using namespace lathe::test;

namespace {

struct Memory {
  Output w, m, v, g;
  Memory(int64_t n, int64_t shift) : w(n, shift), m(n, shift), v(n, shift), g(n, shift) {
    const auto put = [n](Output& y, const std::vector<float>& x, bool positive) {
      for (int64_t i = 0; i < n; ++i)
        y.data()[i] = positive ? std::abs(x[static_cast<size_t>(i)]) : x[static_cast<size_t>(i)];
    };
    put(w, random_floats(n, 1), false);
    put(m, random_floats(n, 2, 0.1f), false);
    put(v, random_floats(n, 3, 0.01f), true);
    put(g, random_floats(n, 4), false);
  }
  bool intact() const { return w.intact() && m.intact() && v.intact() && g.intact(); }
};

// Where a device fuses a product into a sum, each of some ten operations differs by half an ulp of its result.
bool close(const Output& y, const Output& expected, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    if (!(std::abs(y[i] - expected[i]) <= 10 * 2 * kEpsilon * std::max(1.0f, std::abs(expected[i])))) return false;
  return true;
}

}  // namespace

TEST_CASE("AdamW on a CUDA device steps as on the CPU") {
  const int64_t n = GENERATE(1, 8, 1027), shift = GENERATE(0, 1);
  const bool clear = GENERATE(false, true);
  CAPTURE(n, shift, clear);
  const AdamwStep step{.learning_rate = 0.01,
                       .beta1 = 0.9,
                       .beta2 = 0.95,
                       .epsilon = 1e-8,
                       .weight_decay = 0.1,
                       .bias_correction1 = 0.19,
                       .bias_correction2 = 0.0975,
                       .gradient_scale = 0.5,
                       .clear_gradient = clear};
  Memory a(n, shift), b(n, 0);
  kernel::adamw_step(kOnDevice, a.w.data(), a.m.data(), a.v.data(), a.g.data(), n, step);
  kernel::adamw_step(Cpu{}, b.w.data(), b.m.data(), b.v.data(), b.g.data(), n, step);
  CHECK(close(a.w, b.w, n));
  CHECK(close(a.m, b.m, n));
  CHECK(close(a.v, b.v, n));
  CHECK(std::equal(a.g.data(), a.g.data() + n, b.g.data()));
  CHECK(a.intact());
}

TEST_CASE("stochastic gradient descent on a CUDA device steps as on the CPU") {
  const int64_t n = GENERATE(1, 8, 1027), shift = GENERATE(0, 1);
  const bool clear = GENERATE(false, true), momentum = GENERATE(false, true);
  CAPTURE(n, shift, clear, momentum);
  const SgdStep step{.learning_rate = 0.01,
                     .momentum = momentum ? 0.9 : 0.0,
                     .weight_decay = 0.1,
                     .gradient_scale = 0.5,
                     .clear_gradient = clear};
  Memory a(n, shift), b(n, 0);
  kernel::sgd_step(kOnDevice, a.w.data(), momentum ? a.m.data() : nullptr, a.g.data(), n, step);
  kernel::sgd_step(Cpu{}, b.w.data(), momentum ? b.m.data() : nullptr, b.g.data(), n, step);
  CHECK(close(a.w, b.w, n));
  CHECK(close(a.m, b.m, n));
  CHECK(std::equal(a.g.data(), a.g.data() + n, b.g.data()));
  CHECK(a.intact());
}

TEST_CASE("a sum of squares on a CUDA device is that of the CPU") {
  const InOrder order(any_order());
  const int64_t n = GENERATE(0, 1, 1023, 4099), shift = GENERATE(0, 1);
  CAPTURE(n, shift);
  const auto values = random_floats(n, 1);
  Input x(values, shift);
  std::vector<double> sums(kernel::kSumsOfSquares + 1, NAN);
  kernel::sum_of_squares(kOnDevice, sums.data(), x.data(), n);
  const double exact = kernel::sum_of_squares(Cpu{}, values.data(), n);
  // Sums in double. The CPU's are the longest: 256 steps in each of 16 lanes, the lanes, the pieces of 4,096 elements.
  CHECK(std::abs(sums[0] - exact) <= 0x1p-53 * 300 * exact);
  CHECK(std::isnan(sums.back()));
}

TEST_CASE("a sum of squares on a CUDA device of more than a piece a block") {
  const int64_t n = 1024 * (kernel::kSumsOfSquares + 1) + 3;
  const auto values = random_floats(n, 1);
  Input x(values);
  std::vector<double> sums(kernel::kSumsOfSquares);
  kernel::sum_of_squares(kOnDevice, sums.data(), x.data(), n);
  const double exact = kernel::sum_of_squares(Cpu{}, values.data(), n);
  // The CPU's 256 pieces have 4,105 elements in 16 lanes: 257 steps, and 16, and 256.
  CHECK(std::abs(sums[0] - exact) <= 0x1p-53 * 600 * exact);
}
