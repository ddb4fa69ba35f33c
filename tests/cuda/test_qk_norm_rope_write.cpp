// Norm, rotation and the write into the cache of CUDA in one pass, against the CPU's.
#include "tests/cuda/cuda_cases.h"
#include "tests/kernels/head_cases.h"

using namespace lathe;
using namespace lathe::test;

TEST_CASE("heads prepared in one pass on CUDA are those of the CPU, and write_kv's bits of them lie in the cache") {
  for (const HeadCase& c : kHeadCases)
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8_0}) {
      INFO("head dim " << c.head_dim << ", rotary " << c.rotary_dim << ", " << name(dtype));
      const HeadRows w(c, 11);
      const int64_t width = w.query + w.key, elements = w.tokens * width;
      std::vector<uint8_t> ignored = w.pages(dtype);
      Guarded expected(elements);
      w.prepare(Cpu{}, expected.data(), ignored, dtype);
      const auto check = [&] {
        Guarded out(elements);
        std::vector<uint8_t> pages = w.pages(dtype), written = pages;
        w.prepare(kOnDevice, out.data(), pages, dtype);
        REQUIRE(out.intact());
        double worst = 0, most = 0;
        for (int64_t i = 0; i < elements; ++i) {
          worst = worse(worst, std::abs(static_cast<double>(out[i]) - static_cast<double>(expected[i])));
          most = std::max(most, std::abs(static_cast<double>(expected[i])));
        }
        // The two sums of squares differ by the rounding of at most head_dim / 32 + 5 additions each, of which the root
        // halves the effect; five roundings more on the way.
        REQUIRE(worst <= (static_cast<double>(c.head_dim) / 32 + 10) * kEpsilon * most);
        kernel::write_kv(kOnDevice, w.layer(written, dtype), {out.data() + w.query, width}, w.v(), w.slots.data(),
                         w.tokens, c.kv_heads, c.head_dim);
        REQUIRE(pages == written);
      };
      if (dtype == DType::q8_0)
        simt::in_every_schedule(check);
      else
        check();
    }
}
