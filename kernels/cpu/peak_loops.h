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

  // One kind of sum each: what is added in a step, and the operations of a lane.
  struct FloatSum {
    using X = float;
    static constexpr int kGroups = S::kFloatGroups, kTokens = S::kFloatTokens, kOperations = 2;
    Floats value;
    static LATHE_INLINE FloatSum begin() { return {S::zero()}; }
    LATHE_INLINE void add(const uint8_t* w, float x) { value = S::fma(S::load(w), S::set1(x), value); }
    LATHE_INLINE Floats end() const { return value; }
  };
  struct IntegerSum {
    using X = int32_t;
    static constexpr int kGroups = S::kIntegerGroups, kTokens = S::kIntegerTokens, kOperations = 8;
    typename S::template IntegerSum<4> value;
    static LATHE_INLINE IntegerSum begin() { return {S::template IntegerSum<4>::begin(0)}; }
    LATHE_INLINE void add(const uint8_t* w, int32_t x) { value.add(S::load_ints(w), x); }
    LATHE_INLINE Floats end() {
      if constexpr (requires { value.carry(); }) value.carry();
      return value.end(0);
    }
  };
  struct MatrixSum {  // of two tokens and twice the columns
    using X = int32_t;
    static constexpr int kGroups = S::kIntegerGroups, kTokens = S::kIntegerTokens / 2, kOperations = 32;
    typename S::MatrixSum value;
    static LATHE_INLINE MatrixSum begin() { return {S::MatrixSum::begin(0, 0)}; }
    LATHE_INLINE void add(const uint8_t* w, int32_t x) {
      const int32_t words[4] = {x, x, x, x};
      value.add(S::load_ints(w), S::load_ints(w), words);
    }
    LATHE_INLINE Floats end() const { return value.end(0) + value.end(1); }
  };
  struct PairSum {
    using X = int32_t;
    static constexpr int kGroups = S::kFloatGroups, kTokens = S::kFloatTokens, kOperations = 4;
    Floats value;
    static LATHE_INLINE PairSum begin() { return {S::zero()}; }
    LATHE_INLINE void add(const uint8_t* w, int32_t x) { value = S::add_pair_products(value, S::load_ints(w), x); }
    LATHE_INLINE Floats end() const { return value; }
  };

  template <class Sum>
  static int64_t run(void* memory, int64_t steps) {
    constexpr int kGroups = Sum::kGroups, kTokens = Sum::kTokens;
    auto* lines = static_cast<uint8_t*>(memory);
    const auto* x = static_cast<const typename Sum::X*>(memory);
    Sum sum[kGroups][kTokens];
    LATHE_FOR(g, kGroups) {
      LATHE_FOR(t, kTokens) { sum[g][t] = Sum::begin(); }
    }
    for (int64_t i = 0; i < steps; ++i) LATHE_FOR(t, kTokens) {
        LATHE_FOR(g, kGroups) { sum[g][t].add(lines + (i * kGroups + g) % kLines * 64, x[t]); }
      }
    LATHE_FOR(g, kGroups) {
      LATHE_FOR(t, kTokens) { S::store(lines + (kLines + g * kTokens + t) * 64, sum[g][t].end()); }
    }
    return steps * kGroups * kTokens * 16 * Sum::kOperations;
  }

  static constexpr int64_t kLines = PeakTable::kReadLines;
  static constexpr PeakTable table() {
    PeakTable table{run<FloatSum>, run<IntegerSum>};
    if constexpr (S::kMultipliesBf16) table.bf16 = run<PairSum>;
    return table;
  }
};

}  // namespace lathe::cpu
