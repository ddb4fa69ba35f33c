// Rotary position embedding on a CUDA device.
#include "kernels/rope.h"
#include "tests/cuda/cuda_cases.h"

using namespace lathe;
using namespace lathe::test;

TEST_CASE("rotations on a CUDA device are the CPU's") {
  struct Heads {
    int64_t heads, dim, rotary;
  };
  const Heads h =
      GENERATE(Heads{1, 2, 2}, Heads{3, 64, 64}, Heads{2, 80, 32}, Heads{5, 13, 6}, Heads{3, 10, 10}, Heads{2, 16, 14});
  const int64_t tokens = GENERATE(1, 5), shift = GENERATE(0, 1);
  const RopeStyle style = GENERATE(RopeStyle::half_split, RopeStyle::interleaved);
  const int direction = GENERATE(1, -1);
  CAPTURE(h.heads, h.dim, h.rotary, tokens, shift, static_cast<int>(style), direction);
  const int64_t n = h.heads * h.dim, half = h.rotary / 2, stride = n + 4 + shift;
  const auto values = random_floats(tokens * stride, 1), cosines = random_floats(9 * half, 2),
             sines = random_floats(9 * half, 3);
  const std::vector<int32_t> rows{8, 0, 3, 3, 7};
  Input x(values, shift), cos(cosines, shift), sin(sines, shift);
  const Rotation<float> rotation{cos.data(), sin.data(), rows.data(), h.rotary, style};
  std::vector<float> expected(static_cast<size_t>(tokens * n));
  kernel::rope<float>(Cpu{}, {expected.data(), n}, {x.data(), stride}, rotation, tokens, h.heads, h.dim, direction);
  Output y(tokens, n, stride, shift);
  kernel::rope<float>(kOnDevice, y.rows(), {x.data(), stride}, rotation, tokens, h.heads, h.dim, direction);
  // Two products and a sum, which a device may fuse.
  const double tolerance =
      3 * kEpsilon * largest(widened(values)) * (largest(widened(cosines)) + largest(widened(sines)));
  CHECK(y.error(widened(expected)) <= tolerance);
  kernel::rope<float>(kOnDevice, y.rows(), y.rows(), rotation, tokens, h.heads, h.dim, -direction);  // in place
  kernel::rope<float>(Cpu{}, {expected.data(), n}, {expected.data(), n}, rotation, tokens, h.heads, h.dim, -direction);
  CHECK(y.error(widened(expected)) <= 2 * tolerance * (largest(widened(cosines)) + largest(widened(sines))));
}

TEST_CASE("tables of angles made on a CUDA device are the CPU's") {
  const int64_t half = GENERATE(1, 24, 128, 131), first = 3, end = 9;
  std::vector<float> inverse;
  for (int64_t i = 0; i < half; ++i)
    inverse.push_back(std::pow(10000.0f, -static_cast<float>(i) / static_cast<float>(half)) * 1000);
  // Rows from `first` on are written, those before are not.
  Output cos(end * half), sin(end * half);
  std::vector<float> cos_expected(static_cast<size_t>(end * half)), sin_expected(cos_expected.size());
  kernel::rope_rows<float>(kOnDevice, cos.data(), sin.data(), inverse.data(), 1.25f, first, end, half);
  kernel::rope_rows<float>(Cpu{}, cos_expected.data(), sin_expected.data(), inverse.data(), 1.25f, first, end, half);
  CHECK(cos.intact());
  CHECK(sin.intact());
  for (int64_t i = 0; i < first * half; ++i) REQUIRE(std::isnan(cos[i]));
  for (int64_t i = first * half; i < end * half; ++i) {  // roundings from double, whose last bits may differ
    REQUIRE(std::abs(cos[i] - cos_expected[static_cast<size_t>(i)]) <= 1.25 * 2 * kEpsilon);
    REQUIRE(std::abs(sin[i] - sin_expected[static_cast<size_t>(i)]) <= 1.25 * 2 * kEpsilon);
  }
}
