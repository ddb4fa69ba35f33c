// How far the linears are from exact arithmetic: what a test bounds and what docs/performance.md tables.
#pragma once
#include "kernels/packed_linear.h"

namespace lathe::test {

// The root of the mean squared error over the root of the mean square of the exact outputs.
struct LinearErrors {
  double gaussian;  // activations from a normal distribution
  double outliers;  // the same, one in a hundred of them times 20
};

// Products of 16 tokens with 64 rows of 1536 random weights under cpu_isa(), against double on the weights that the
// file's blocks mean. So packing is checked, too, but a format's own loss is not in it.
LinearErrors linear_errors(DType dtype, Arithmetic arithmetic);

}  // namespace lathe::test
