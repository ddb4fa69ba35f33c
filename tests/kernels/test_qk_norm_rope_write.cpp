// Norm, rotation and the write into the cache in one pass, against the operations one by one.
#include <cmath>

#include "kernels/norm.h"
#include "kernels/qk_norm_rope_write.h"
#include "tests/kernels/kernel_cases.h"

using namespace lathe;
using namespace lathe::test;

namespace {

constexpr int64_t kWritten = 40, kPageCount = 4;

struct HeadCase {
  int64_t heads, kv_heads, head_dim, rotary_dim;  // rotary 0: no rotation
  bool norms;
  RopeStyle style;
};
constexpr HeadCase kHeadCases[] = {
    {9, 3, 64, 64, false, RopeStyle::half_split}, {4, 2, 20, 12, true, RopeStyle::half_split},
    {4, 4, 16, 16, true, RopeStyle::interleaved}, {2, 1, 7, 0, false, RopeStyle::half_split},
    {2, 2, 80, 0, true, RopeStyle::half_split},   {2, 1, 1, 0, false, RopeStyle::interleaved}};

struct Written {
  HeadCase c;
  int64_t stride = (c.heads + 2 * c.kv_heads) * c.head_dim + 5;  // q, k and v of a token lie in one row
  std::vector<float> rows = random_floats(kWritten * stride, 1);
  std::vector<float> q_norm = random_floats(c.head_dim, 2), k_norm = random_floats(c.head_dim, 3);
  std::vector<float> cos, sin;
  std::vector<int32_t> angles, slots;

  explicit Written(const HeadCase& of) : c(of) {
    for (int64_t i = 0; i < kWritten * c.rotary_dim / 2; ++i) {
      cos.push_back(static_cast<float>(std::cos(static_cast<double>(i))));
      sin.push_back(static_cast<float>(std::sin(static_cast<double>(i))));
    }
    for (int32_t i = 0; i < kWritten; ++i)
      angles.push_back(i * 3 % kWritten), slots.push_back(i % 7 == 3 ? -1 : 63 - i);
  }
  Rotation<float> rotation() const {
    if (c.rotary_dim == 0) return {};
    return {cos.data(), sin.data(), angles.data(), c.rotary_dim, c.style};
  }
  const float* q() const { return rows.data(); }
  const float* k() const { return q() + c.heads * c.head_dim; }
  const float* v() const { return k() + c.kv_heads * c.head_dim; }

  std::vector<uint8_t> pages(DType dtype) const {
    return std::vector<uint8_t>(static_cast<size_t>(2 * kPageCount * page_bytes(dtype)), 0xff);
  }
  int64_t page_bytes(DType dtype) const { return c.kv_heads * page_head_bytes(dtype, c.head_dim); }
  CacheLayer layer(std::vector<uint8_t>& pages, DType dtype) const {
    return {pages.data(), pages.data() + kPageCount * page_bytes(dtype), dtype, page_bytes(dtype)};
  }
};

// Heads of all tokens after norm and rotation, token by token.
std::vector<float> step_by_step(const Written& w, const float* x, int64_t heads, const std::vector<float>& norm) {
  const HeadCase& c = w.c;
  std::vector<float> y(static_cast<size_t>(kWritten * heads * c.head_dim)), turned = y;
  for (int64_t t = 0; t < kWritten; ++t) {
    float* row = y.data() + t * heads * c.head_dim;
    std::copy_n(x + t * w.stride, heads * c.head_dim, row);
    if (c.norms)
      kernel::rms_norm(Cpu{}, row, nullptr, {x + t * w.stride, c.head_dim}, norm.data(), heads, c.head_dim, 1e-6f,
                       1.0f);
  }
  if (c.rotary_dim == 0) return y;
  kernel::rope<float>(Cpu{}, {turned.data(), heads * c.head_dim}, {y.data(), heads * c.head_dim}, w.rotation(),
                      kWritten, heads, c.head_dim, 1);
  return turned;
}

}  // namespace

TEST_CASE("heads prepared in one pass have the bits of norm, rope and write_kv one by one") {
  for (const HeadCase& c : kHeadCases)
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8_0})
      for_each_isa([&](CpuIsa) {
        INFO("head dim " << c.head_dim << ", rotary " << c.rotary_dim << ", " << name(dtype));
        const Written w(c);
        const std::vector<float> q = step_by_step(w, w.q(), c.heads, w.q_norm);
        const std::vector<float> k = step_by_step(w, w.k(), c.kv_heads, w.k_norm);
        std::vector<uint8_t> expected = w.pages(dtype);
        kernel::write_kv(Cpu{}, w.layer(expected, dtype), {k.data(), c.kv_heads * c.head_dim}, {w.v(), w.stride},
                         w.slots.data(), kWritten, c.kv_heads, c.head_dim);

        QkNormRope steps;
        if (c.norms) {
          steps.q_norm = {w.q_norm.data(), 1e-6f, 1.0f};
          steps.k_norm = {w.k_norm.data(), 1e-6f, 1.0f};
        }
        steps.rotation = w.rotation();
        for (const int members : {1, 2}) {
          const Threads threads(members);
          std::vector<uint8_t> pages = w.pages(dtype);
          const int64_t width = (c.heads + c.kv_heads) * c.head_dim;
          Guarded out(kWritten * width);
          kernel::qk_norm_rope_write(Cpu{}, out.data(), w.layer(pages, dtype), {w.q(), w.stride}, {w.k(), w.stride},
                                     {w.v(), w.stride}, w.slots.data(), steps, kWritten, c.heads, c.kv_heads,
                                     c.head_dim);
          CHECK(out.intact());
          CHECK(pages == expected);
          for (int64_t t = 0; t < kWritten; ++t) {
            const int64_t query = c.heads * c.head_dim, key = c.kv_heads * c.head_dim;
            CHECK(std::equal(q.begin() + t * query, q.begin() + (t + 1) * query, out.data() + t * width));
            CHECK(std::equal(k.begin() + t * key, k.begin() + (t + 1) * key, out.data() + t * width + query));
          }
        }
      });
}
