// Attention over the paged cache: one new token, or 512, behind contexts of several lengths.
#include <fmt/core.h>

#include "tests/bench/paged_world.h"

namespace lathe::bench {
namespace {

struct Heads {
  int64_t heads, kv_heads, head_dim;
};
constexpr Heads kSmolLm{9, 3, 64}, kLlama{32, 8, 128};  // SmolLM2-135M's, and those of Llama 3 8B

void decode(Report& report, const Heads& h, int64_t context, DType dtype) {
  PagedWorld world(h.heads, h.kv_heads, h.head_dim, context, 1, dtype);
  world.from_memory();
  report.time(
      "attend one", fmt::format("{} cache", name(dtype)),
      fmt::format("{} keys, {}/{} x {}", context, h.heads, h.kv_heads, h.head_dim), world.cache_bytes(), Ceiling::read,
      [&] { world.attend(); }, world.copies());
}

void prefill(Report& report, const Heads& h, int64_t context, DType dtype) {
  constexpr int64_t m = kPromptTokens;
  PagedWorld world(h.heads, h.kv_heads, h.head_dim, context, m, dtype);
  const double before = static_cast<double>(context - m), tokens = static_cast<double>(m);
  const double pairs = tokens * before + tokens * (tokens + 1) / 2;  // of a query and a key it sees
  report.time("attend", fmt::format("{} cache", name(dtype)),
              fmt::format("{} after {}, {}/{} x {}", m, context - m, h.heads, h.kv_heads, h.head_dim),
              4.0 * pairs * static_cast<double>(h.heads * h.head_dim), Ceiling::floats, [&] { world.attend(); });
}

}  // namespace

void attentions(Report& report, bool thorough) {
  for (const DType dtype : kCacheDTypes) {
    if (!thorough && dtype != DType::f16) continue;
    for (const int64_t context : {128, 512, 2048, 8192})
      if (thorough || context == 2048) decode(report, kSmolLm, context, dtype);
    for (const int64_t context : {512, 2048, 8192})
      if (thorough || context == 512) prefill(report, kSmolLm, context, dtype);
    if (thorough) {
      decode(report, kLlama, 2048, dtype);
      prefill(report, kLlama, 2048, dtype);
    }
  }
}

}  // namespace lathe::bench
