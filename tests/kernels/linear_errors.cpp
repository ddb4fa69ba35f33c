// The error of a product relative to double: see linear_errors.h.
#include "tests/kernels/linear_errors.h"

#include <cmath>

#include "tests/kernels/linear_cases.h"

namespace lathe::test {
namespace {

constexpr int64_t kErrorTokens = 16, kRows = 64, kColumns = 1536;

double relative_error(Weight& w, const std::vector<float>& x, Arithmetic arithmetic) {
  Guarded y(kErrorTokens * kRows);
  multiply(w, y, kRows, x.data(), kColumns, kErrorTokens, arithmetic);
  std::vector<float> row(kColumns);
  double errors = 0, squares = 0;
  for (int64_t r = 0; r < kRows; ++r) {
    dequantise_row(row.data(), w.row(r), w.dtype, kColumns);
    for (int64_t t = 0; t < kErrorTokens; ++t) {
      double exact = 0;
      for (int64_t k = 0; k < kColumns; ++k)
        exact += static_cast<double>(row[static_cast<size_t>(k)]) *
                 static_cast<double>(x[static_cast<size_t>(t * kColumns + k)]);
      const double error = static_cast<double>(y[t * kRows + r]) - exact;
      errors += error * error;
      squares += exact * exact;
    }
  }
  return std::sqrt(errors / squares);
}

}  // namespace

LinearErrors linear_errors(DType dtype, Arithmetic arithmetic) {
  Weight w(dtype, kRows, kColumns, 11);
  std::fill(w.bias.begin(), w.bias.end(), 0.0f);
  std::vector<float> x = random_floats(kErrorTokens * kColumns, 12);
  const double gaussian = relative_error(w, x, arithmetic);
  std::mt19937 random(13);
  for (float& value : x)
    if (random() % 100 == 0) value *= 20.0f;
  return {gaussian, relative_error(w, x, arithmetic)};
}

}  // namespace lathe::test
