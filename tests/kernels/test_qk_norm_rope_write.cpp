// Norm, rotation and the write into the cache in one pass, against the operations one by one.
#include "kernels/norm.h"
#include "tests/kernels/head_cases.h"
#include "tests/kernels/kernel_cases.h"

using namespace lathe;
using namespace lathe::test;

namespace {

// Heads of all tokens after norm and rotation, token by token.
std::vector<float> step_by_step(const HeadRows& w, ConstRows<float> x, int64_t heads, const std::vector<float>& norm) {
  const HeadCase& c = w.c;
  std::vector<float> y(static_cast<size_t>(w.tokens * heads * c.head_dim)), turned = y;
  for (int64_t t = 0; t < w.tokens; ++t) {
    float* row = y.data() + t * heads * c.head_dim;
    std::copy_n(x[t], heads * c.head_dim, row);
    if (c.norms) kernel::rms_norm(Cpu{}, row, nullptr, {x[t], c.head_dim}, norm.data(), heads, c.head_dim, 1e-6f, 1.0f);
  }
  if (c.rotary_dim == 0) return y;
  kernel::rope<float>(Cpu{}, {turned.data(), heads * c.head_dim}, {y.data(), heads * c.head_dim}, w.steps().rotation,
                      w.tokens, heads, c.head_dim, 1);
  return turned;
}

}  // namespace

TEST_CASE("heads prepared in one pass have the bits of norm, rope and write_kv one by one") {
  for (const HeadCase& c : kHeadCases)
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8_0})
      for_each_isa([&](CpuIsa) {
        INFO("head dim " << c.head_dim << ", rotary " << c.rotary_dim << ", " << name(dtype));
        const HeadRows w(c, 40);
        const std::vector<float> q = step_by_step(w, w.q(), c.heads, w.q_norm);
        const std::vector<float> k = step_by_step(w, w.k(), c.kv_heads, w.k_norm);
        std::vector<uint8_t> expected = w.pages(dtype);
        kernel::write_kv(Cpu{}, w.layer(expected, dtype), {k.data(), w.key}, w.v(), w.slots.data(), w.tokens,
                         c.kv_heads, c.head_dim);
        for (const int members : {1, 2}) {
          const Threads threads(members);
          std::vector<uint8_t> pages = w.pages(dtype);
          const int64_t width = w.query + w.key;
          Guarded out(w.tokens * width);
          w.prepare(Cpu{}, out.data(), pages, dtype);
          CHECK(out.intact());
          CHECK(pages == expected);
          for (int64_t t = 0; t < w.tokens; ++t) {
            CHECK(std::equal(q.begin() + t * w.query, q.begin() + (t + 1) * w.query, out.data() + t * width));
            CHECK(std::equal(k.begin() + t * w.key, k.begin() + (t + 1) * w.key, out.data() + t * width + w.query));
          }
        }
      });
}
