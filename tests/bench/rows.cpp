// The small kernels, for one token and for 512: norms, rotation, activations, sums, the write into the cache.
#include <fmt/core.h>

#include <vector>

#include "kernels/activation.h"
#include "kernels/norm.h"
#include "kernels/qk_norm_rope_write.h"
#include "kernels/rope.h"
#include "kernels/softcap.h"
#include "tests/bench/paged_world.h"

namespace lathe::bench {
namespace {

constexpr int64_t kWidth = 576, kInner = 1536, kHeads = 9, kKvHeads = 3, kHeadDim = 64, kVocabulary = 49152;

struct Buffers {
  int64_t tokens;
  std::vector<float> x = test::random_floats(tokens * 2 * kInner, 1), y = std::vector<float>(x.size());
  std::vector<float> w = test::random_floats(kInner, 2), angles = test::random_floats(tokens * kHeadDim, 3);
  std::vector<int32_t> positions = test::counted(tokens);

  Rotation<float> rotation(RopeStyle style) const {
    return {angles.data(), angles.data() + tokens * kHeadDim / 2, positions.data(), kHeadDim, style};
  }
};

// One kernel over `width` elements of each token; `arrays` of them are read or written.
template <class F>
void small(Report& report, const char* kernel, int64_t tokens, int64_t width, int64_t arrays, F&& f) {
  report.time("small", kernel, fmt::format("{} x {}", tokens, width),
              4.0 * static_cast<double>(tokens * width * arrays), tokens > 1 ? Ceiling::copy : Ceiling::none, f);
}

void rows_of(Report& report, int64_t tokens) {
  Buffers b{tokens};
  float *x = b.x.data(), *y = b.y.data();
  const float* w = b.w.data();
  small(report, "rms_norm", tokens, kWidth, 2, [&] {
    kernel::rms_norm(Cpu{}, y, nullptr, {x, kWidth}, w, tokens, kWidth, 1e-5f, 0.0f);
  });
  small(report, "add_rms_norm", tokens, kWidth, 4, [&] {
    kernel::add_rms_norm(Cpu{}, y, y + tokens * kWidth, nullptr, x, x + tokens * kWidth, w, tokens, kWidth, 1e-5f,
                         0.0f);
  });
  small(report, "layer_norm", tokens, kWidth, 2, [&] {
    kernel::layer_norm(Cpu{}, y, nullptr, nullptr, {x, kWidth}, w, w, tokens, kWidth, 1e-5f);
  });
  small(report, "rope half_split", tokens, kWidth, 2, [&] {
    kernel::rope<float>(Cpu{}, {y, kWidth}, {x, kWidth}, b.rotation(RopeStyle::half_split), tokens, kHeads, kHeadDim,
                        1);
  });
  small(report, "rope interleaved", tokens, kWidth, 2, [&] {
    kernel::rope<float>(Cpu{}, {y, kWidth}, {x, kWidth}, b.rotation(RopeStyle::interleaved), tokens, kHeads, kHeadDim,
                        1);
  });
  const auto gated = [&](Activation f) {
    kernel::gated_activation(Cpu{}, y, {x, 2 * kInner}, {x + kInner, 2 * kInner}, tokens, kInner, f);
  };
  small(report, "gated silu", tokens, kInner, 3, [&] { gated(Activation::silu); });
  small(report, "gated gelu_tanh", tokens, kInner, 3, [&] { gated(Activation::gelu_tanh); });
  small(report, "gated gelu_exact", tokens, kInner, 3, [&] { gated(Activation::gelu_exact); });
  small(report, "add", tokens, kWidth, 3, [&] { kernel::add(Cpu{}, y, x, x + tokens * kWidth, tokens * kWidth); });
}

// k and v of some tokens into the cache, alone and with the rotation before it; what is read and written counts.
void into_cache(Report& report, int64_t tokens, DType dtype) {
  PagedWorld world(kHeads, kKvHeads, kHeadDim, tokens, 1, dtype);
  const std::vector<float> k = test::random_floats(tokens * kKvHeads * kHeadDim, 1);
  const std::vector<int32_t> slots = test::counted(tokens);
  const CacheLayer layer = world.next_layer();
  const int64_t q_width = kHeads * kHeadDim, kv_width = kKvHeads * kHeadDim;
  const std::vector<float> q = test::random_floats(tokens * q_width, 2),
                           angles = test::random_floats(tokens * kHeadDim, 3);
  std::vector<float> out(static_cast<size_t>(tokens * (q_width + kv_width)));
  const QkNormRope steps{.rotation = {angles.data(), angles.data() + tokens * kHeadDim / 2, slots.data(), kHeadDim,
                                      RopeStyle::half_split}};
  const double read = 8.0 * static_cast<double>(k.size());
  const double written = tokens > 1 ? world.cache_bytes() : 0;
  const Ceiling ceiling = tokens > 1 ? Ceiling::copy : Ceiling::none;
  report.time("small", fmt::format("write_kv {}", name(dtype)), fmt::format("{} x {}", tokens, kv_width),
              read + written, ceiling, [&] {
                kernel::write_kv(Cpu{}, layer, {k.data(), kv_width}, {k.data(), kv_width}, slots.data(), tokens,
                                 kKvHeads, kHeadDim);
              });
  const double rotated = 8.0 * static_cast<double>(tokens * (q_width + kv_width));
  report.time("small", fmt::format("prepare_heads {}", name(dtype)),
              fmt::format("{} x {}", tokens, q_width + 2 * kv_width), rotated + read / 2 + written, ceiling, [&] {
                kernel::qk_norm_rope_write(Cpu{}, out.data(), layer, {q.data(), q_width}, {k.data(), kv_width},
                                           {k.data(), kv_width}, slots.data(), steps, tokens, kHeads, kKvHeads,
                                           kHeadDim);
              });
}

}  // namespace

void small_kernels(Report& report) {
  for (const int64_t tokens : {int64_t{1}, kPromptTokens}) {
    rows_of(report, tokens);
    for (const DType dtype : kCacheDTypes) into_cache(report, tokens, dtype);
  }
  std::vector<float> logits = test::random_floats(kVocabulary, 1);
  small(report, "softcap", 1, kVocabulary, 2,
        [&] { kernel::scale_softcap(Cpu{}, logits.data(), 1.0f, 30.0f, kVocabulary); });
}

}  // namespace lathe::bench
