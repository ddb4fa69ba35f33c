// The errors of the linears against double, by dtype and arithmetic: the table of docs/performance.md.
#include <cmath>

#include "tests/kernels/kernel_cases.h"
#include "tests/kernels/linear_cases.h"
#include "tests/kernels/linear_errors.h"

using namespace lathe;
using namespace lathe::test;

namespace {

// The root of the mean squared relative error of rounding to `bits` significant bits: the error is even within half an
// ulp, 2^-bits of the binade's start, and the mean of 1 / m^2 over mantissas m in [1, 2) that are as frequent as their
// reciprocals is 3 / (8 ln 2).
double rounding_error(int bits) { return std::ldexp(1.0, -bits) / std::sqrt(3.0) * std::sqrt(3 / (8 * std::log(2.0))); }

struct Bounds {
  double gaussian, outliers;
};

Bounds bounds_of(DType dtype, Arithmetic arithmetic) {
  constexpr double kColumns = 1536, kSlack = 1.2;  // a sample's deviation from the mean
  // A step of amax / 127 in 32 columns, even within half of it; amax of 32 normal values is 2.1 deviations in the mean
  // (2.2 in the square): 5 to 6e-3. One outlier of 20 deviations in a block multiplies its step by ten, and a quarter
  // of the blocks has one while they make up for most of the sum: 1.1e-2. The limits are the project's own.
  const Bounds int8 = {7e-3, 1.5e-2};
  if (arithmetic == Arithmetic::int8 && is_quantised(dtype)) return int8;
  // Activations to 8 bits, and the weights where they are not bf16 already.
  if (arithmetic == Arithmetic::bf16) {
    const double error = rounding_error(8) * std::sqrt(dtype == DType::bf16 ? 1.0 : 2.0) * kSlack;
    return {error, 1.2 * error};  // few large terms: a coarser sample
  }
  // K roundings of partial sums to 24 bits, whose squares grow evenly to the whole sum's: half of K of the last, each.
  const double error = rounding_error(24) * std::sqrt(kColumns / 2) * 2;  // the portable form rounds products, too
  // What int8 leaves lies within half a step, of which the second int8 make 127: a step of 1 / 254.
  if (arithmetic == Arithmetic::int16 && is_quantised(dtype))
    return {int8.gaussian / 254 + error, int8.outliers / 254 + error};
  return {error, error};
}

}  // namespace

TEST_CASE("every weight dtype in every arithmetic is as near to double as its roundings say") {
  for (const DType dtype : kWeightDTypes)
    for (const Arithmetic arithmetic : kArithmetics) {
      if (is_integer(arithmetic) && !is_quantised(dtype)) continue;
      INFO(name(dtype) << " weights, " << name(arithmetic) << " arithmetic");
      const Bounds bounds = bounds_of(dtype, arithmetic);
      for_each_isa([&](CpuIsa) {
        const LinearErrors errors = linear_errors(dtype, arithmetic);
        CHECK(errors.gaussian <= bounds.gaussian);
        CHECK(errors.outliers <= bounds.outliers);
      });
    }
}
