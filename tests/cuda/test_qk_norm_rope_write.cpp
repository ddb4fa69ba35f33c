// Norm, rotation and the write into the cache of CUDA in one pass, on an emulated GPU, against the CPU's.
#include <cmath>

#include "kernels/qk_norm_rope_write.h"
#include "tests/catch.h"
#include "tests/cuda/schedules.h"
#include "tests/kernels/kernel_data.h"

using namespace lathe;
using namespace lathe::test;

namespace {

constexpr int64_t kTokens = 11, kPages = 2;

struct HeadCase {
  int64_t heads, kv_heads, head_dim, rotary_dim;  // rotary 0: no rotation
  bool norms;
  RopeStyle style;
};
constexpr HeadCase kHeadCases[] = {
    {9, 3, 64, 64, false, RopeStyle::half_split}, {4, 2, 20, 12, true, RopeStyle::half_split},
    {4, 4, 16, 16, true, RopeStyle::interleaved}, {2, 1, 7, 0, false, RopeStyle::half_split},
    {2, 2, 80, 0, true, RopeStyle::half_split},   {1, 1, 256, 64, true, RopeStyle::interleaved},
    {2, 1, 1, 0, false, RopeStyle::interleaved}};

}  // namespace

TEST_CASE("heads prepared in one pass on CUDA are those of the CPU, and write_kv's bits of them lie in the cache") {
  for (const HeadCase& c : kHeadCases)
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8_0}) {
      INFO("head dim " << c.head_dim << ", rotary " << c.rotary_dim << ", " << name(dtype));
      const int64_t stride = (c.heads + 2 * c.kv_heads) * c.head_dim + 5, width = (c.heads + c.kv_heads) * c.head_dim;
      const int64_t page_bytes = c.kv_heads * page_head_bytes(dtype, c.head_dim);
      const std::vector<float> rows = random_floats(kTokens * stride, 1);
      const std::vector<float> q_norm = random_floats(c.head_dim, 2), k_norm = random_floats(c.head_dim, 3);
      std::vector<float> cos, sin;
      for (int64_t i = 0; i < kTokens * c.rotary_dim / 2; ++i) {
        cos.push_back(static_cast<float>(std::cos(static_cast<double>(i))));
        sin.push_back(static_cast<float>(std::sin(static_cast<double>(i))));
      }
      std::vector<int32_t> angles, slots;
      for (int32_t i = 0; i < kTokens; ++i)
        angles.push_back(i * 3 % kTokens), slots.push_back(i % 7 == 3 ? -1 : 31 - 2 * i);
      QkNormRope steps;
      if (c.norms) steps.q_norm = {q_norm.data(), 1e-6, 1.0}, steps.k_norm = {k_norm.data(), 1e-6, 1.0};
      if (c.rotary_dim > 0) steps.rotation = {cos.data(), sin.data(), angles.data(), c.rotary_dim, c.style};

      const Rows<const float> q{rows.data(), stride}, k{q.data + c.heads * c.head_dim, stride},
          v{k.data + c.kv_heads * c.head_dim, stride};
      const auto layer = [&](std::vector<uint8_t>& pages) {
        return CacheLayer{pages.data(), pages.data() + kPages * page_bytes, dtype, page_bytes};
      };
      std::vector<uint8_t> ignored(static_cast<size_t>(2 * kPages * page_bytes)), untouched(ignored.size(), 0xff);
      Guarded expected(kTokens * width);
      kernel::qk_norm_rope_write(Cpu{}, expected.data(), layer(ignored), q, k, v, slots.data(), steps, kTokens, c.heads,
                                 c.kv_heads, c.head_dim);
      const auto check = [&] {
        Guarded out(kTokens * width);
        std::vector<uint8_t> pages = untouched, written = untouched;
        kernel::qk_norm_rope_write(Cuda{}, out.data(), layer(pages), q, k, v, slots.data(), steps, kTokens, c.heads,
                                   c.kv_heads, c.head_dim);
        REQUIRE(out.intact());
        double worst = 0, largest = 0;
        for (int64_t i = 0; i < kTokens * width; ++i) {
          const double error = std::abs(static_cast<double>(out[i]) - static_cast<double>(expected[i]));
          worst = error > worst || std::isnan(error) ? error : worst;
          largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
        }
        // The two sums of squares differ by the rounding of at most head_dim / 32 + 5 additions each, of which the root
        // halves the effect; five roundings more on the way.
        REQUIRE(worst <= (static_cast<double>(c.head_dim) / 32 + 10) * kEpsilon * largest);
        kernel::write_kv(Cuda{}, layer(written), {out.data() + c.heads * c.head_dim, width}, v, slots.data(), kTokens,
                         c.kv_heads, c.head_dim);
        REQUIRE(pages == written);
      };
      if (dtype == DType::q8_0)
        simt::in_every_schedule(check);
      else
        check();
    }
}
