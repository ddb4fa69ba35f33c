// Biases' gradients, softcap, dropout, clamps and factors by token on a CUDA device.
#include "kernels/bias.h"
#include "kernels/dropout.h"
#include "kernels/projection_steps.h"
#include "kernels/softcap.h"
#include "tests/cuda/cuda_cases.h"

using namespace lathe;
using namespace lathe::test;

TEST_CASE("clamps and factors by token on a CUDA device") {
  const int64_t rows = GENERATE(1, 3, 300), n = GENERATE(1, 4, 37), shift = GENERATE(0, 1);
  CAPTURE(rows, n, shift);
  const int64_t stride = n + 3 + shift;
  auto values = random_floats(rows * stride, 1), dys = random_floats(rows * n, 2);
  values[0] = 0.75f;  // on the border: inside
  Input x(values, shift), dy(dys, shift);
  const Rows<const float> in{x.data(), stride};
  const auto same = [&](Output& y, const std::vector<float>& expected) { return y.error(widened(expected)) == 0; };
  std::vector<float> expected(static_cast<size_t>(rows * n));
  Output y(rows, n, n, shift);
  kernel::clamp<float>(kOnDevice, y.data(), in, 0.75f, rows, n);
  kernel::clamp<float>(Cpu{}, expected.data(), in, 0.75f, rows, n);
  CHECK(same(y, expected));
  kernel::clamp_backward<float>(kOnDevice, y.data(), dy.data(), in, 0.75f, rows, n);
  kernel::clamp_backward<float>(Cpu{}, expected.data(), dy.data(), in, 0.75f, rows, n);
  CHECK(same(y, expected));

  std::vector<int32_t> positions = counted(rows);
  for (int32_t& p : positions) p *= 37;
  std::vector<float> factors(positions.size());
  Output factors_y(rows);
  kernel::log_position_factors<float>(kOnDevice, factors_y.data(), positions.data(), rows, 512);
  kernel::log_position_factors<float>(Cpu{}, factors.data(), positions.data(), rows, 512);
  CHECK(factors_y.error(widened(factors)) <= 2 * kEpsilon * largest(widened(factors)));  // a rounding from double
  kernel::scale_rows<float>(kOnDevice, y.data(), in, factors.data(), rows, n);
  kernel::scale_rows<float>(Cpu{}, expected.data(), in, factors.data(), rows, n);
  CHECK(same(y, expected));
}

TEST_CASE("a clamp on a CUDA device keeps NaN") {
  Input x({NAN});
  Output y(1);
  y.data()[0] = 0;
  kernel::clamp<float>(kOnDevice, y.data(), {x.data(), 1}, 1.0f, 1, 1);
  CHECK(std::isnan(y[0]));
}

TEST_CASE("column sums on a CUDA device") {
  const InOrder order(any_order());
  const int64_t rows = GENERATE(1, 2, 129, 515), n = GENERATE(1, 16, 37), shift = GENERATE(0, 1);
  CAPTURE(rows, n, shift);
  const int64_t stride = n + 3;
  const auto values = random_floats(rows * stride, 1);
  auto values64 = widened(values);
  Input x(values, shift);
  Output sums(n, shift, 0.5f);
  std::vector<double> exact(static_cast<size_t>(n), 0.5);
  kernel::add_column_sums<float>(kOnDevice, sums.data(), {x.data(), stride}, rows, n);
  kernel::add_column_sums<double>(Cpu{}, exact.data(), {values64.data(), stride}, rows, n);
  // Sums of at most rows / 128 + 25 steps, none larger than the sum of magnitudes.
  const double magnitude = static_cast<double>(rows) * largest(values64);
  CHECK(sums.error(exact) <= static_cast<double>(rows / 128 + 25) * kEpsilon * magnitude);
}

TEST_CASE("softcap on a CUDA device is that in double") {
  const int64_t n = GENERATE(1, 37, 1025), shift = GENERATE(0, 1);
  const double cap = GENERATE(0.0, 3.0), scale = 0.7;
  CAPTURE(n, shift, cap);
  const auto values = random_floats(n, 1, 4.0f), dys = random_floats(n, 2);
  auto x64 = widened(values), dy64 = widened(dys);
  Output x(n, shift), dy(n, shift);
  std::copy(values.begin(), values.end(), x.data());
  std::copy(dys.begin(), dys.end(), dy.data());
  kernel::scale_softcap<float>(kOnDevice, x.data(), scale, cap, n);
  kernel::scale_softcap<double>(Cpu{}, x64.data(), scale, cap, n);
  // tanh errs by 2 ulp and its argument by 2; the scale's rounding to f32 by half a one.
  CHECK(x.error(x64) <= 10 * kEpsilon * largest(x64));
  kernel::scale_softcap_backward<float>(kOnDevice, dy.data(), x.data(), scale, cap, n);
  kernel::scale_softcap_backward<double>(Cpu{}, dy64.data(), x64.data(), scale, cap, n);
  // 1 - t^2 has the error of t twice.
  CHECK(dy.error(dy64) <= 24 * kEpsilon * largest(widened(dys)));
}

TEST_CASE("dropout on a CUDA device drops what the CPU drops") {
  const int64_t n = GENERATE(1, 6, 1029), shift = GENERATE(0, 1);
  const double rate = GENERATE(0.0, 0.3);
  CAPTURE(n, shift, rate);
  const uint64_t number = 0x123456789abcdef0, stream = 0xfedcba9876543210;
  Aligned memory(sizeof(number));
  auto* seed = reinterpret_cast<uint64_t*>(memory.data());
  *seed = number;
  const auto values = random_floats(n, 1);
  Input x(values, shift);
  Output y(n, shift);
  std::vector<float> expected(values.size());
  kernel::dropout<float>(kOnDevice, y.data(), x.data(), n, rate, seed, stream);
  kernel::dropout<float>(Cpu{}, expected.data(), values.data(), n, rate, seed, stream);
  CHECK(y.error(widened(expected)) == 0);
  kernel::dropout<float>(kOnDevice, x.data(), x.data(), n, rate, seed, stream);  // in place
  CHECK(std::equal(expected.begin(), expected.end(), x.data()));
}
