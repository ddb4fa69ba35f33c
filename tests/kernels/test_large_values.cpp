// Finite numbers of any size: exponentials neither overflow nor lose the largest, on any instruction set.
#include <algorithm>
#include <cmath>

#include "kernels/activation.h"
#include "kernels/cross_entropy.h"
#include "kernels/paged_attention.h"
#include "kernels/softcap.h"
#include "tests/kernels/kernel_cases.h"

using namespace lathe;
using namespace lathe::test;

namespace {

constexpr int64_t kHeads = 8, kHeadDim = 16, kContext = 300;  // two segments

// One sequence whose scores are known exactly: queries have one component, `size`, and keys one beside it, key(j).
// Values are random. Only the last `rows` tokens ask.
struct Sequence {
  DType dtype;
  std::vector<float> keys, values, q;
  std::vector<int32_t> table;
  std::vector<uint8_t> k_pages, v_pages;

  template <class Key>
  Sequence(DType type, float size, Key key) : dtype(type), values(random_floats(kContext * kHeadDim, 5)) {
    std::vector<float> k(static_cast<size_t>(kContext * kHeadDim), 0.0f);
    std::vector<int32_t> slots;
    for (int64_t j = 0; j < kContext; ++j) {
      keys.push_back(key(j));
      k[static_cast<size_t>(j * kHeadDim)] = keys.back();
      slots.push_back(static_cast<int32_t>(j));
    }
    for (float& v : values) v = bf16_to_f32(f32_to_bf16(v));
    q.assign(static_cast<size_t>(kContext * kHeads * kHeadDim), 0.0f);
    for (int64_t i = 0; i < kContext * kHeads; ++i) q[static_cast<size_t>(i * kHeadDim)] = i % 2 == 0 ? size : -size;
    const int64_t pages = (kContext + kPageTokens - 1) / kPageTokens;
    for (int64_t p = 0; p < pages; ++p) table.push_back(static_cast<int32_t>(p));
    k_pages.resize(static_cast<size_t>(pages * page_head_bytes(dtype, kHeadDim)));
    v_pages.resize(k_pages.size());
    kernel::write_kv(Cpu{}, layer(), {k.data(), kHeadDim}, {values.data(), kHeadDim}, slots.data(), kContext, 1,
                     kHeadDim);
  }
  CacheLayer layer() { return {k_pages.data(), v_pages.data(), dtype, page_head_bytes(dtype, kHeadDim)}; }

  // The attention of the last `rows` tokens, out (rows, Hq, D).
  void attend(Guarded& out, int64_t rows, const ScoreOptions& options) {
    const int32_t start[] = {0, static_cast<int32_t>(rows)}, context[] = {static_cast<int32_t>(kContext)};
    Aligned scratch(kernel::paged_attention_scratch_bytes(Cpu{}, dtype, rows, kHeads, kHeadDim, kContext));
    kernel::paged_attention(Cpu{}, out.data(), {q.data() + (kContext - rows) * kHeads * kHeadDim, kHeads * kHeadDim},
                            layer(), {start, context, table.data(), 1, static_cast<int64_t>(table.size())}, kHeads, 1,
                            kHeadDim, options, scratch.data());
  }
  // The components of one head's output.
  std::vector<double> exact(int64_t token, int64_t head, const ScoreOptions& options) const {
    const double own = q[static_cast<size_t>((token * kHeads + head) * kHeadDim)];
    const int64_t first = options.window > 0 ? std::max<int64_t>(0, token - options.window + 1) : 0;
    std::vector<double> scores;
    for (int64_t j = first; j <= token; ++j) {
      const double score = own * static_cast<double>(keys[static_cast<size_t>(j)]) * static_cast<double>(options.scale);
      const double cap = static_cast<double>(options.softcap);
      scores.push_back(cap > 0 ? cap * std::tanh(score / cap) : score);
    }
    const double most = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    std::vector<double> y(kHeadDim, 0.0);
    for (int64_t j = first; j <= token; ++j) {
      const double p = std::exp(scores[static_cast<size_t>(j - first)] - most);
      const float* value = values.data() + j * kHeadDim;
      sum += p;
      for (double& component : y) component += p * static_cast<double>(*value++);
    }
    for (double& component : y) component /= sum;
    return y;
  }
};

void check_attention(Sequence& sequence, const ScoreOptions& options, double tolerance) {
  for (const int64_t rows : {1, 3, 70}) {
    Guarded out(rows * kHeads * kHeadDim);
    sequence.attend(out, rows, options);
    CHECK(out.intact());
    double worst = 0;
    for (int64_t i = 0; i < rows * kHeads; ++i) {
      const std::vector<double> expected = sequence.exact(kContext - rows + i / kHeads, i % kHeads, options);
      for (int64_t d = 0; d < kHeadDim; ++d) {
        const double error = std::abs(static_cast<double>(out[i * kHeadDim + d]) - expected[static_cast<size_t>(d)]);
        worst = worse(worst, error);
      }
    }
    INFO("rows " << rows << ", off by " << worst);
    CHECK(worst <= tolerance);
  }
}

}  // namespace

TEST_CASE("attention of scores of any size is finite and right") {
  // Keys are whole numbers, so every score is exact; where sums of bf16 weights are rounded (AMX), they are by 2^-9.
  const auto key = [](int64_t j) { return static_cast<float>(j * 7 % 5 - 2); };
  const ScoreOptions options[] = {{0.25f}, {0.25f, 40}, {0.25f, 0, 30.0f}, {1.0f, 20, 2.0f}};
  const float sizes[] = {0x1p0f, 0x1p13f, 0x1p30f, 0x1p33f, 0x1p40f, 0x1p90f, 0x1p120f, 0x1p126f};
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8_0})
    for (const float size : tried<float>(sizes, 3, kCrossBuilt))
      for (const ScoreOptions& o : options) {
        Sequence sequence(dtype, size, key);
        // Blocks of q8_0 keep 2 as 127 scales rounded to f16, to 2^-11 of it; a score of order 1 moves with it.
        const double tolerance = dtype == DType::bf16 ? 0x1p-7 : dtype == DType::q8_0 ? 0x1p-6 : 1e-5;
        for_each_isa([&](CpuIsa) {
          INFO(name(dtype) << ", " << size << ", window " << o.window << ", softcap " << o.softcap);
          check_attention(sequence, o, tolerance);
        });
      }
}

TEST_CASE("attention tells scores apart that are large and near each other") {
  // Scores 2^20 + {0, 1, 2, 3}, all exact in f32.
  Sequence sequence(DType::f32, 0x1p20f, [](int64_t j) { return 1.0f + static_cast<float>(j % 4) * 0x1p-20f; });
  for_each_isa([&](CpuIsa) { check_attention(sequence, {1.0f}, 1e-5); });
}

TEST_CASE("attention keeps NaN") {
  const auto key = [](int64_t j) { return j == 100 ? std::numeric_limits<float>::quiet_NaN() : 1.0f; };
  for (const float size : {1.0f, 0x1p100f}) {
    Sequence sequence(DType::f32, size, key);
    for_each_isa([&](CpuIsa) {
      Guarded out(kHeads * kHeadDim);
      sequence.attend(out, 1, {0.25f});
      CHECK(std::isnan(out[0]));
      sequence.attend(out, 1, {0.25f, 40});  // the window does not reach it
      CHECK(std::isfinite(out[0]));
    });
  }
}

TEST_CASE("activations and their slopes of numbers of any size") {
  std::vector<float> x;
  for (float size = 1e4f; size < 3e38f; size *= 31.0f) x.insert(x.end(), {size, -size});
  x.insert(x.end(), {3.4e38f, -3.4e38f, 87.0f, -87.0f, 0x1p-140f, -0x1p-140f});
  const auto n = static_cast<int64_t>(x.size());
  const std::vector<float> ones(x.size(), 1.0f);
  for (const Activation f : {Activation::silu, Activation::gelu_exact, Activation::gelu_tanh})
    for_each_isa([&](CpuIsa) {
      Guarded y(n), dx(n);
      kernel::activation(Cpu{}, y.data(), {x.data(), n}, 1, n, f);
      kernel::activation_backward(Cpu{}, dx.data(), ones.data(), {x.data(), n}, 1, n, f);
      for (int64_t i = 0; i < n; ++i) {
        const float v = x[static_cast<size_t>(i)];
        INFO("activation " << static_cast<int>(f) << " of " << v);
        const bool small = std::abs(v) < 1;  // half of it: exp and erf are 1 to rounding
        // At -87 silu is -87 exp(-87), -1.4e-36, and everything beyond is nearer to zero still.
        CHECK(std::abs(y[i] - (small ? v / 2 : std::max(v, 0.0f))) <= std::abs(v) * 0x1p-22f * (v > 0) + 2e-36f);
        CHECK(std::abs(dx[i] - (small ? 0.5f : v > 0 ? 1.0f : 0.0f)) <= 1e-6f);
      }
    });
}

TEST_CASE("softcap and logsumexp of logits of any size") {
  for (const float size : {1e4f, 1e9f, 1e20f, 1e30f, 3e38f}) {
    INFO("logits of " << size);
    float capped[] = {size, -size, 0.5f * size};
    kernel::scale_softcap(Cpu{}, capped, 1.0f, 30.0f, 3);
    CHECK(capped[0] == 30.0f);
    CHECK(capped[1] == -30.0f);
    CHECK(capped[2] == 30.0f);
    const float logits[] = {size, -size, size, 0.0f};
    const int32_t target = 0;
    float maximum = -INFINITY, target_logit = 0;
    double sum = 0;
    kernel::logsumexp_update(Cpu{}, RunningLogsumexp<float>{&maximum, &sum, &target_logit}, {logits, 4}, &target, 1, 0,
                             4);
    CHECK(maximum == size);
    CHECK(sum == 2.0);
  }
}
