// Philox against the known answers that its authors publish, and the distributions' moments.
#include <cmath>

#include "tensor/random.h"
#include "tests/catch.h"

using namespace lathe;

TEST_CASE("philox gives the published known answers") {
  using Words = std::array<uint32_t, 4>;
  CHECK(philox({0, 0}, {0, 0, 0, 0}) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox({~0u, ~0u}, {~0u, ~0u, ~0u, ~0u}) == Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox({0xa4093822, 0x299f31d0}, {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}) ==
        Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("random numbers have their distribution's moments and depend on all three arguments") {
  constexpr int n = 20000;
  double uniform = 0, normal = 0, squares = 0;
  for (uint64_t i = 0; i < n; ++i) {
    const double u = random_uniform(7, 1, i), z = random_normal(7, 2, i);
    REQUIRE((u >= 0 && u < 1));
    uniform += u;
    normal += z;
    squares += z * z;
  }
  // Five standard errors of each mean: sqrt(1/12/n), sqrt(1/n), sqrt(2/n).
  CHECK(std::abs(uniform / n - 0.5) < 5 * std::sqrt(1.0 / 12 / n));
  CHECK(std::abs(normal / n) < 5 * std::sqrt(1.0 / n));
  CHECK(std::abs(squares / n - 1) < 5 * std::sqrt(2.0 / n));
  CHECK(random_uniform(7, 1, 0) == random_uniform(7, 1, 0));
  CHECK(random_uniform(7, 1, 0) != random_uniform(8, 1, 0));
  CHECK(random_uniform(7, 1, 0) != random_uniform(7, 2, 0));
  CHECK(random_uniform(7, 1, 0) != random_uniform(7, 1, 1));
}
