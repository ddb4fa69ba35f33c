// Activations and element-wise sums on a CUDA device against the loops in double.
#include "kernels/activation.h"
#include "tests/cuda/cuda_cases.h"

using namespace lathe;
using namespace lathe::test;

namespace {

struct Shape {
  int64_t rows, n, stride, shift;
};
const Shape kShapes[] = {{1, 1, 1, 0},   {3, 5, 5, 0},   {1, 1027, 1027, 0},
                         {7, 64, 68, 0}, {5, 36, 37, 1}, {300, 4, 8, 0}};

// exp errs by 2 ulp, a division by one and some six operations by half an ulp each; gelu's exponent is a polynomial of
// x whose error is multiplied by up to 2 x^2 where the result still counts: 2e-6 of the largest value, which counts as
// 1 where it is less.
double tolerance(const std::vector<double>& exact) { return 2e-6 * std::max(1.0, largest(exact)); }

}  // namespace

TEST_CASE("activations on a CUDA device are those in double") {
  const Shape s = GENERATE(from_range(std::begin(kShapes), std::end(kShapes)));
  const Activation f = GENERATE(Activation::silu, Activation::gelu_exact, Activation::gelu_tanh);
  CAPTURE(s.rows, s.n, s.stride, s.shift, static_cast<int>(f));
  const int64_t stored = s.rows * s.stride, elements = s.rows * s.n;
  std::vector<float> gates = random_floats(stored, 1, 3.0f);
  for (int64_t i = 0; i < stored; i += 5) gates[static_cast<size_t>(i)] *= 10;  // far out on both sides
  const auto ups = random_floats(stored, 2), dys = random_floats(elements, 3);
  auto gate64 = widened(gates), up64 = widened(ups), dy64 = widened(dys);
  Input gate(gates, s.shift), up(ups, s.shift), dy(dys, s.shift);
  const Rows<const float> g{gate.data(), s.stride}, u{up.data(), s.stride};
  const Rows<const double> g64{gate64.data(), s.stride}, u64{up64.data(), s.stride};
  std::vector<double> y64(static_cast<size_t>(elements)), dg64(y64.size()), du64(y64.size());

  Output y(s.rows, s.n, s.n, s.shift), dx(s.rows, s.n, s.n, s.shift);
  kernel::activation<float>(kOnDevice, y.data(), g, s.rows, s.n, f);
  kernel::activation<double>(Cpu{}, y64.data(), g64, s.rows, s.n, f);
  CHECK(y.error(y64) <= tolerance(y64));
  kernel::activation_backward<float>(kOnDevice, dx.data(), dy.data(), g, s.rows, s.n, f);
  kernel::activation_backward<double>(Cpu{}, dg64.data(), dy64.data(), g64, s.rows, s.n, f);
  CHECK(dx.error(dg64) <= tolerance(dg64));

  Output gated(s.rows, s.n, s.n, s.shift), dgate(s.rows, s.n, s.stride, s.shift), dup(s.rows, s.n, s.stride, s.shift);
  kernel::gated_activation<float>(kOnDevice, gated.data(), g, u, s.rows, s.n, f);
  kernel::gated_activation<double>(Cpu{}, y64.data(), g64, u64, s.rows, s.n, f);
  CHECK(gated.error(y64) <= tolerance(y64));
  kernel::gated_activation_backward<float>(kOnDevice, dgate.rows(), dup.rows(), dy.data(), g, u, s.rows, s.n, f);
  kernel::gated_activation_backward<double>(Cpu{}, {dg64.data(), s.n}, {du64.data(), s.n}, dy64.data(), g64, u64,
                                            s.rows, s.n, f);
  CHECK(dgate.error(dg64) <= tolerance(dg64));
  CHECK(dup.error(du64) <= tolerance(du64));
}

TEST_CASE("activations on a CUDA device stay finite far out") {
  for (const Activation f : {Activation::silu, Activation::gelu_exact, Activation::gelu_tanh}) {
    Input x({-1e30f, -200.0f, 200.0f, 1e30f}), dy({1, 1, 1, 1});
    Output y(4), dx(4);
    kernel::activation<float>(kOnDevice, y.data(), {x.data(), 4}, 1, 4, f);
    kernel::activation_backward<float>(kOnDevice, dx.data(), dy.data(), {x.data(), 4}, 1, 4, f);
    CHECK(y.error({0, 0, 200, static_cast<double>(1e30f)}) == 0);
    CHECK(dx.error({0, 0, 1, 1}) == 0);
  }
}

TEST_CASE("sums, products and copies on a CUDA device are the CPU's bits") {
  const Shape s = GENERATE(from_range(std::begin(kShapes), std::end(kShapes)));
  CAPTURE(s.rows, s.n, s.stride, s.shift);
  const int64_t n = s.rows * s.stride;
  const auto as = random_floats(n, 1), bs = random_floats(n, 2);
  Input a(as, s.shift), b(bs, s.shift);
  std::vector<double> exact(static_cast<size_t>(n));
  const auto expect = [&](auto&& f) {
    for (size_t i = 0; i < exact.size(); ++i) exact[i] = static_cast<double>(f(as[i], bs[i]));
  };
  Output sum(n, s.shift), product(n, s.shift), scaled(n, s.shift);
  kernel::add<float>(kOnDevice, sum.data(), a.data(), b.data(), n);
  expect([](float p, float q) { return p + q; });
  CHECK(sum.error(exact) == 0);
  kernel::multiply<float>(kOnDevice, product.data(), a.data(), b.data(), n);
  expect([](float p, float q) { return p * q; });
  CHECK(product.error(exact) == 0);
  kernel::scale<float>(kOnDevice, scaled.data(), a.data(), 0.3, n);
  expect([](float p, float) { return 0.3f * p; });
  CHECK(scaled.error(exact) == 0);
  kernel::scale<float>(kOnDevice, scaled.data(), scaled.data(), 0.5, n);  // in place
  expect([](float p, float) { return 0.5f * (0.3f * p); });
  CHECK(scaled.error(exact) == 0);

  Output y(s.rows, s.n, s.stride, s.shift);
  const auto expect_rows = [&](auto&& f) {
    exact.clear();
    for (int64_t i = 0; i < s.rows * s.n; ++i) exact.push_back(static_cast<double>(f(i / s.n * s.stride + i % s.n)));
  };
  kernel::put_rows<float>(kOnDevice, y.rows(), {a.data(), s.stride}, s.rows, s.n, false);
  expect_rows([&](int64_t at) { return as[static_cast<size_t>(at)]; });
  CHECK(y.error(exact) == 0);
  kernel::put_rows<float>(kOnDevice, y.rows(), {b.data(), s.stride}, s.rows, s.n, true);
  expect_rows([&](int64_t at) { return as[static_cast<size_t>(at)] + bs[static_cast<size_t>(at)]; });
  CHECK(y.error(exact) == 0);
  kernel::fill<float>(kOnDevice, y.rows(), -0.1, s.rows, s.n);
  expect_rows([](int64_t) { return -0.1f; });
  CHECK(y.error(exact) == 0);
}

TEST_CASE("nothing is asked of a CUDA device for no elements") {
  Output y(4);
  kernel::fill<float>(kOnDevice, {y.data(), 4}, 1.0, 0, 4);
  kernel::add<float>(kOnDevice, y.data(), y.data(), y.data(), 0);
  CHECK(std::isnan(y[0]));
  CHECK(y.intact());
}
