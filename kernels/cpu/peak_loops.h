// The inner loops of the linears' tiles with nothing around them, a template over the simd struct (simd.h): how fast
// the units multiply and add. Included by kernels_<isa>.cpp.
//
// There are as many sums as the tiles have, so the latency of one is hidden. The weights change from step to step, lest
// the compiler take a product that never changes out of the loop.
#pragma once
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/simd.h"

namespace lathe::cpu {

template <class S>
struct PeakLoops {
  using Floats = typename S::Floats;
  using Ints = typename S::Ints;

  static int64_t floats(void* memory, int64_t steps) {
    constexpr int kGroups = S::kFloatGroups, kTokens = S::kFloatTokens;
    auto* lines = static_cast<uint8_t*>(memory);
    const auto* x = static_cast<const float*>(memory);
    Floats sum[kGroups][kTokens];
    LATHE_FOR(g, kGroups) {
      LATHE_FOR(t, kTokens) { sum[g][t] = S::zero(); }
    }
    for (int64_t i = 0; i < steps; ++i) {
      Floats w[kGroups];
      LATHE_FOR(g, kGroups) { w[g] = S::load(lines + (i * kGroups + g) % kLines * 64); }
      LATHE_FOR(t, kTokens) {
        const Floats xt = S::set1(x[t]);
        LATHE_FOR(g, kGroups) { sum[g][t] = S::fma(w[g], xt, sum[g][t]); }
      }
    }
    LATHE_FOR(g, kGroups) {
      LATHE_FOR(t, kTokens) { S::store(lines + (kLines + g * kTokens + t) * 64, sum[g][t]); }
    }
    return steps * kGroups * kTokens * 16 * 2;
  }

  static int64_t integers(void* memory, int64_t steps) {
    using Sum = typename S::template IntegerSum<4>;
    constexpr int kGroups = S::kIntegerGroups, kTokens = S::kIntegerTokens;
    auto* lines = static_cast<uint8_t*>(memory);
    const auto* x = static_cast<const int32_t*>(memory);
    Sum sum[kGroups][kTokens];
    LATHE_FOR(g, kGroups) {
      LATHE_FOR(t, kTokens) { sum[g][t] = Sum::begin(0); }
    }
    for (int64_t i = 0; i < steps; ++i) {
      Ints w[kGroups];
      LATHE_FOR(g, kGroups) { w[g] = S::load_ints(lines + (i * kGroups + g) % kLines * 64); }
      LATHE_FOR(t, kTokens) {
        LATHE_FOR(g, kGroups) { sum[g][t].add(w[g], x[t]); }
      }
    }
    LATHE_FOR(g, kGroups) {
      LATHE_FOR(t, kTokens) { S::store(lines + (kLines + g * kTokens + t) * 64, sum[g][t].end(0)); }
    }
    return steps * kGroups * kTokens * 16 * 4 * 2;
  }

  // Only where the instruction set multiplies pairs of bf16.
  static int64_t bf16(void* memory, int64_t steps) {
    constexpr int kGroups = S::kFloatGroups, kTokens = S::kFloatTokens;
    auto* lines = static_cast<uint8_t*>(memory);
    const auto* x = static_cast<const int32_t*>(memory);
    Floats sum[kGroups][kTokens];
    LATHE_FOR(g, kGroups) {
      LATHE_FOR(t, kTokens) { sum[g][t] = S::zero(); }
    }
    for (int64_t i = 0; i < steps; ++i) {
      Ints w[kGroups];
      LATHE_FOR(g, kGroups) { w[g] = S::load_ints(lines + (i * kGroups + g) % kLines * 64); }
      LATHE_FOR(t, kTokens) {
        LATHE_FOR(g, kGroups) { sum[g][t] = S::add_pair_products(sum[g][t], w[g], x[t]); }
      }
    }
    LATHE_FOR(g, kGroups) {
      LATHE_FOR(t, kTokens) { S::store(lines + (kLines + g * kTokens + t) * 64, sum[g][t]); }
    }
    return steps * kGroups * kTokens * 16 * 2 * 2;
  }

  static constexpr int64_t kLines = PeakTable::kReadLines;
  static constexpr PeakTable table() {
    PeakTable table{floats, integers};
    if constexpr (S::kMultipliesBf16) table.bf16 = bf16;
    return table;
  }
};

}  // namespace lathe::cpu
