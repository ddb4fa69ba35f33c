// Tiles of products, a template over the simd struct (simd.h). Included by kernels_<isa>.cpp.
//
// Both operands are packed: strips of as many rows of op(A), or columns of op(B), as a tile has, [strip][k][width].
// A tile takes some depth of k in order, one accumulator an output, and adds that sum to C; C is the sum of such sums
// in order. So the bits of an output depend on the depth alone, not on the tile's place or on its neighbours.
#pragma once
#include "kernels/cpu/simd.h"
#include "kernels/cpu/training.h"

namespace lathe::cpu {

// What stands in a strip: the operand, the operand rounded to bf16, or pairs along k of such as bits.
enum class GemmForm { exact, rounded, pairs };

template <class S, GemmForm kForm>
struct GemmTiles {
  using Floats = typename S::Floats;
  static constexpr int kRows = S::kFloatTokens, kColumns = 16 * S::kFloatGroups;
  static constexpr int kStep = kForm == GemmForm::pairs ? 2 : 1;  // of k in an element of a strip

  // What is fetched ahead: strips of B where they may exceed the first-level cache, and rows of k, each of which lies
  // in other pages than the one before. Either is worth 1 to 3%.
  static constexpr int kStepsAhead = 6, kRowsAhead = 16;

  // Strips are packed 16 lanes at a time, so that the last ones of a strip may end in the gap behind it.
  static int64_t strip_floats(int64_t steps, int width) { return steps * width + 16; }

  // ---- packing ----

  static LATHE_INLINE void put(float* to, Floats first, Floats second) {
    if constexpr (kForm == GemmForm::exact) S::store(to, first);
    if constexpr (kForm == GemmForm::rounded) S::store(to, S::round_to_bf16(first));
    if constexpr (kForm == GemmForm::pairs)
      S::store_ints(to, S::pair_bf16(S::round_to_bf16(first), S::round_to_bf16(second)));
  }
  static LATHE_INLINE int clamped(int64_t n, int most) { return n <= 0 ? 0 : n < most ? static_cast<int>(n) : most; }

  // Rows of k, in which the elements of a strip lie side by side: some rows at a time, which stay in the first-level
  // cache while the strips take their part of them, and the sums of a strip in a register.
  template <int kWidth>
  static void pack_rows_of_k(float* to, const GemmOperand& x, const GemmRange& range, float* sums) {
    constexpr int64_t kSome = 32;
    const int64_t stride = strip_floats((x.depth + kStep - 1) / kStep, kWidth);
    for (int64_t step0 = range.step0; step0 < range.step1; step0 += kSome) {
      const int64_t step1 = step0 + kSome < range.step1 ? step0 + kSome : range.step1;
      const float* rows = x.data + (step0 - range.step0) * kStep * x.ld;
      for (int64_t strip = range.strip0; strip < range.strip1; ++strip)
        for (int lane = 0; lane < kWidth; lane += 16) {
          const int64_t i = strip * kWidth + lane;
          const int lanes = clamped(x.count - i, kWidth - lane < 16 ? kWidth - lane : 16);
          Floats sum = sums != nullptr ? S::load_partial(sums + i, lanes) : S::zero();
          const float* row = rows + i;
          float* out = to + strip * stride + step0 * kWidth + lane;
          for (int64_t step = step0; step < step1; ++step, row += kStep * x.ld, out += kWidth) {
            __builtin_prefetch(row + kRowsAhead * kStep * x.ld);
            if (kStep == 2) __builtin_prefetch(row + (kRowsAhead * kStep + 1) * x.ld);
            const bool whole = step * kStep + kStep <= x.depth;
            const Floats first = S::load_partial(row, lanes);
            const Floats second = kStep == 2 && whole ? S::load_partial(row + x.ld, lanes) : S::zero();
            put(out, first, second);
            sum = sum + first;
            if (kStep == 2) sum = sum + second;
          }
          if (sums != nullptr) S::store_partial(sums + i, sum, lanes);
        }
    }
  }

  // Rows of the operand, along which k runs: squares of 16 x 16 are turned.
  template <int kWidth>
  static void pack_rows(float* to, const GemmOperand& x, const GemmRange& range) {
    const int64_t steps = (x.depth + kStep - 1) / kStep, stride = strip_floats(steps, kWidth);
    constexpr int kLanes = kWidth < 16 ? kWidth : 16;
    for (int64_t strip = range.strip0; strip < range.strip1; ++strip)
      for (int64_t k = range.step0 * kStep; k < range.step1 * kStep; k += 16)
        for (int lane = 0; lane < kWidth; lane += 16) {
          const int64_t i = strip * kWidth + lane;
          const int lanes = clamped(x.count - i, kLanes), columns = clamped(x.depth - k, 16);
          Floats square[16];
          LATHE_FOR(r, 16) {
            square[r] = r < kLanes && r < lanes ? S::load_partial(x.data + (i + r) * x.ld + k, columns) : S::zero();
          }
          S::template transpose<kLanes>(square);
          float* out = to + strip * stride + k / kStep * kWidth + lane;
          LATHE_FOR(c, 16 / kStep) {
            if (c * kStep < columns) put(out + c * kWidth, square[c * kStep], square[c * kStep + kStep - 1]);
          }
        }
  }

  template <int kWidth>
  static void pack(float* to, const GemmOperand& x, const GemmRange& range, float* sums) {
    if (x.rows_of_k)
      pack_rows_of_k<kWidth>(to, x, range, sums);
    else
      pack_rows<kWidth>(to, x, range);
  }

  // ---- tiles ----

  static LATHE_INLINE Floats multiply_add(Floats sum, Floats b, const float* a) {
    if constexpr (kForm == GemmForm::pairs) {
      int32_t pair;
      std::memcpy(&pair, a, 4);
      return S::add_pair_products(sum, reinterpret_cast<typename S::Ints>(b), pair);
    } else {
      return S::fma(b, S::set1(*a), sum);
    }
  }

  // The corner of C that a tile adds to.
  template <int kGroups, bool kWhole>
  static LATHE_INLINE void finish(const Floats (&sum)[kRows][kGroups], const GemmOutput& out, int rows,
                                  int64_t columns) {
    LATHE_FOR(r, kRows) {
      if (kWhole || r < rows) LATHE_FOR(g, kGroups) {
          const int lanes = kWhole ? 16 : clamped(columns - 16 * g, 16);
          const auto load = [&](const float* p) __attribute__((always_inline)) {
            return kWhole ? S::load(p) : S::load_partial(p, lanes);
          };
          float* c = out.c + r * out.ldc + 16 * g;
          Floats v = sum[r][g];
          if (out.accumulate)
            v = load(c) + v;
          else if (out.bias != nullptr)
            v = load(out.bias + 16 * g) + v;
          if (kWhole)
            S::store(c, v);
          else
            S::store_partial(c, v, lanes);
        }
    }
  }

  // Element (row, step) of A is a[row * kRowStride + step * kStepStride]: 1 and kRows in a strip.
  template <int kGroups, int kRowStride = 1, int kStepStride = kRows>
  LATHE_NOINLINE static void tile(const GemmOutput& out, const float* a, const float* b, int64_t steps, int rows,
                                  int64_t columns) {
    Floats sum[kRows][kGroups];
    LATHE_FOR(r, kRows) {
      LATHE_FOR(g, kGroups) { sum[r][g] = S::zero(); }
      if (r < rows) __builtin_prefetch(out.c + r * out.ldc, 1);
      if (kGroups > 1 && r < rows) __builtin_prefetch(out.c + r * out.ldc + 16, 1);
    }
    for (int64_t step = 0; step < steps; ++step, a += kStepStride, b += kColumns) {
      Floats column[kGroups];
      LATHE_FOR(g, kGroups) {
        column[g] = S::load(b + 16 * g);
        if (kGroups > 1) __builtin_prefetch(b + kStepsAhead * kColumns + 16 * g);
      }
      LATHE_FOR(r, kRows) {
        LATHE_FOR(g, kGroups) { sum[r][g] = multiply_add(sum[r][g], column[g], a + r * kRowStride); }
      }
    }
    if (rows == kRows && columns >= 16 * kGroups)
      finish<kGroups, true>(sum, out, rows, columns);
    else
      finish<kGroups, false>(sum, out, rows, columns);
  }

  // A strip of B stays in the first-level cache while the strips of A pass.
  static void multiply(const GemmOutput& out, const float* a, const float* b, int64_t rows, int64_t columns,
                       int64_t depth) {
    const int64_t steps = (depth + kStep - 1) / kStep;
    for (int64_t column = 0; column < columns; column += kColumns, b += strip_floats(steps, kColumns)) {
      const float* strip = a;
      for (int64_t row = 0; row < rows; row += kRows, strip += strip_floats(steps, kRows)) {
        const GemmOutput corner{out.c + row * out.ldc + column, out.ldc,
                                out.bias != nullptr ? out.bias + column : nullptr, out.accumulate};
        const int height = clamped(rows - row, kRows);
        if (kColumns > 16 && columns - column <= 16)
          tile<1>(corner, strip, b, steps, height, columns - column);
        else
          tile<S::kFloatGroups>(corner, strip, b, steps, height, columns - column);
      }
    }
  }

  static constexpr GemmKernels kernels() {
    if constexpr (kForm == GemmForm::rounded)
      return {kRows, kColumns, kStep, pack<kRows>, pack<kColumns>, GemmTiles<S, GemmForm::exact>::multiply};
    else
      return {kRows, kColumns, kStep, pack<kRows>, pack<kColumns>, multiply};
  }
  static constexpr GemmKernels kKernels = kernels();
};

}  // namespace lathe::cpu
