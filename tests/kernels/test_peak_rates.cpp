#include "kernels/peak_rates.h"
#include "tests/kernels/kernel_cases.h"

using namespace lathe;
using namespace lathe::test;

TEST_CASE("every instruction set says how fast it multiplies") {
  for_each_isa([&](CpuIsa) {
    const PeakRates rates = measure_peak_rates();
    CHECK(rates.floats > 0);
    CHECK(rates.bf16 > 0);
    CHECK(rates.integers > 0);
  });
}
