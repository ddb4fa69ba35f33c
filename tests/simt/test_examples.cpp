// Whole kernels under the emulator, beside double precision.
#include <cmath>
#include <vector>

#include "tests/catch.h"
#include "tests/simt/examples/examples.h"
#include "tests/simt/schedules.h"

namespace lathe::kernel {
namespace {

TEST_CASE("A reduction over blocks of 256 threads gives what double precision gives") {
  simt::in_every_schedule([] {
    const int rows = 5, n = 1000;
    std::vector<bf16> x(rows * n), residual(rows * n), w(n), y(rows * n);
    for (int i = 0; i < rows * n; ++i) x[i] = to_bf16(std::sin(0.3f * i)), residual[i] = to_bf16(std::cos(0.7f * i));
    for (int i = 0; i < n; ++i) w[i] = to_bf16(1 + 0.001f * i);
    std::vector<double> sums(rows * n);
    for (int i = 0; i < rows * n; ++i) sums[i] = to_float(to_bf16(to_float(x[i]) + to_float(residual[i])));
    example_rms_norm({}, y.data(), residual.data(), x.data(), w.data(), rows, n, 1e-6f);
    for (int r = 0; r < rows; ++r) {
      double squares = 0;
      for (int i = 0; i < n; ++i) squares += sums[r * n + i] * sums[r * n + i];
      for (int i = 0; i < n; ++i) {
        REQUIRE(to_float(residual[r * n + i]) == sums[r * n + i]);
        // One rounding to bf16, 2^-9 of the next power of two, and some 20 of f32 before it.
        const double expected = sums[r * n + i] / std::sqrt(squares / n + 1e-6) * to_float(w[i]);
        REQUIRE(std::abs(to_float(y[r * n + i]) - expected) <= 0x1.01p-8 * std::abs(expected));
      }
    }
  });
}

}  // namespace
}  // namespace lathe::kernel
