// Tiles of the inference linears, a template over the simd struct (simd.h). Included by kernels_<isa>.cpp.
//
// A tile is kGroups groups of 16 rows x kTokens tokens. Each output has ONE accumulator, which starts at the bias and
// takes its columns in ascending order, so its bits depend neither on the tile's shape nor on what stands beside it.
//   float tiles:    y += w x, one fma a column (bf16 pairs: two columns, as the instruction adds them)
//   integer tiles:  y += float(sum of 32 products) * scale_w * scale_x  (+ minimum_w * (scale_x * sum of x))
// Activations are repacked first, so that every broadcast has a constant displacement: [tile][column][token of tile].
#pragma once
#include "kernels/cpu/dispatch.h"
#include "kernels/cpu/packed_layout.h"
#include "kernels/cpu/simd.h"

namespace lathe::cpu {

template <class S>
struct LinearTiles {
  using Floats = typename S::Floats;
  using Ints = typename S::Ints;

  // Whether integer sums begin in 16 bits (simd.h); then carry() is due after word i of `words`, or nothing.
  static constexpr bool kShortSums = requires { S::template IntegerSum<4>::kShortWords; };
  template <class Sum>
  static LATHE_INLINE void carry(Sum& sum, int i, int words) {
    if constexpr (kShortSums)
      if ((i + 1) % Sum::kShortWords == 0 || i + 1 == words) sum.carry();
  }

  // ---- weights: how one group is read ----

  // Two columns: `column` 0 or 1 of them.
  struct StoredF32 {
    static constexpr int kPairBytes = 128;
    static LATHE_INLINE Floats load(const uint8_t* w, int column) { return S::load(w + 64 * column); }
  };
  struct StoredF16 {
    static constexpr int kPairBytes = 64;
    static LATHE_INLINE Floats load(const uint8_t* w, int column) { return S::load_f16(w + 32 * column); }
  };
  struct StoredBf16 {
    static constexpr int kPairBytes = 64;
    static LATHE_INLINE Floats load(const uint8_t* w, int column) {
      Floats first, second;
      S::split_bf16(S::load_ints(w), first, second);
      return column == 0 ? first : second;
    }
  };

  // A quantised form, as the tiles see it: 32 columns at a time, `word` i of them as unsigned bytes, and for each run
  // of columns a scale and a minimum. `head` is what the blocks of a section share.
  struct Head {
    Floats scale, minimum;
  };
  template <DType kType>
  struct Quantised : QuantisedLayout<kType> {
    using Layout = QuantisedLayout<kType>;
    static LATHE_INLINE Ints word(const uint8_t* block, int i) {
      if constexpr (Layout::kHasTable) return S::look_up(stored(block, i), kIq4Table);
      return stored(block, i);
    }
    static LATHE_INLINE Ints stored(const uint8_t* block, int i) {
      if constexpr (Layout::kLowBits == 8) return S::load_ints(block + i * kWordBytes);
      Ints q;
      if constexpr (Layout::kLowBits == 4)
        q = S::bits(S::load_ints(block + i % 4 * kWordBytes), i < 4 ? 0 : 4, 0x0f0f0f0fu);
      else
        q = S::bits(S::load_ints(block + i / 4 * kWordBytes), 2 * (i % 4), 0x03030303u);
      if constexpr (Layout::kHighBits == 1)
        return S::either(q, moved(S::load_ints(block + Layout::kHighAt), i, 0x01010101u));
      if constexpr (Layout::kHighBits == 2)
        return S::either(q,
                         moved(S::load_ints(block + Layout::kHighAt + i / 4 * kWordBytes), 2 * (i % 4), 0x03030303u));
      return q;
    }
    static LATHE_INLINE Head head(const uint8_t* section) {
      if constexpr (!Layout::kIsK) return {S::zero(), S::zero()};
      return {S::load_f16(section), Layout::kHasMinimum ? S::load_f16(section + 2 * kGroupRows) : S::zero()};
    }
    static LATHE_INLINE Floats scale(const Head& head, const uint8_t* block, int run) {
      if constexpr (!Layout::kIsK) return S::load_f16(block + Layout::kScaleAt);
      const Ints bytes = S::load_signed_bytes(block + Layout::kScaleAt + run * kGroupRows);
      return head.scale * S::to_floats(Layout::kNibbleScales ? S::bits(bytes, 0, 15) : bytes);
    }
    static LATHE_INLINE Floats minimum(const Head& head, const uint8_t* block, int run) {
      if constexpr (!Layout::kIsK) return S::load_f16(block + Layout::kMinimumAt);
      const int at = (Layout::kNibbleScales ? Layout::kScaleAt : Layout::kMinimumAt) + run * kGroupRows;
      const Ints bytes = S::load_signed_bytes(block + at);
      return S::zero() - head.minimum * S::to_floats(Layout::kNibbleScales ? S::bits(bytes, 4, 15) : bytes);
    }
    static LATHE_INLINE int32_t start(const TokenBlock& x, int run, int32_t /*offset*/) {
      if constexpr (Layout::kOffset == 0) return 0;
      if constexpr (Layout::kOffset == 128) return x.start8;
      if constexpr (kType == DType::q4_0) return x.start4;
      return -Layout::kOffset * (Layout::kRuns == 1 ? x.half_sum[0] + x.half_sum[1] : x.half_sum[run]);
    }

   private:
    // Bits from `shift` on, where the high bits of this format belong.
    static LATHE_INLINE Ints moved(Ints plane, int shift, uint32_t mask) {
      constexpr int kTo = Layout::kLowBits;
      return shift < kTo ? S::raised_bits(plane, kTo - shift, mask << kTo) : S::bits(plane, shift - kTo, mask << kTo);
    }
  };

  // What unpacking is done once for, when many tokens come: bytes, and scales and minima in f32.
  template <int kOfBits, int kRunColumns, bool kMinimum>
  struct Expanded {
    static constexpr int kBits = kOfBits, kRuns = kBlockColumns / kRunColumns, kBlocks = 1, kHeadBytes = 0;
    static constexpr bool kHasMinimum = kMinimum;
    static constexpr int kScaleAt = 8 * kWordBytes, kMinimumAt = kScaleAt + kRuns * 4 * kGroupRows;
    static constexpr int kBytes = kMinimumAt + (kMinimum ? kRuns * 4 * kGroupRows : 0), kSectionBytes = kBytes;
    static LATHE_INLINE Ints word(const uint8_t* block, int i) { return S::load_ints(block + i * kWordBytes); }
    static LATHE_INLINE Head head(const uint8_t*) { return {S::zero(), S::zero()}; }
    static LATHE_INLINE Floats scale(const Head&, const uint8_t* block, int run) {
      return S::load(block + kScaleAt + run * 4 * kGroupRows);
    }
    static LATHE_INLINE Floats minimum(const Head&, const uint8_t* block, int run) {
      return S::load(block + kMinimumAt + run * 4 * kGroupRows);
    }
    static LATHE_INLINE int32_t start(const TokenBlock& x, int run, int32_t offset) {
      return -offset * (kRuns == 1 ? x.half_sum[0] + x.half_sum[1] : x.half_sum[run]);
    }
  };
  // The dtypes that are expanded. Where a tile serves the outputs of two groups, unpacking four bits costs less than
  // reading the bytes again.
  template <DType kType>
  static constexpr bool kExpands = kType != DType::q8_0 &&
                                   (S::kIntegerGroups == 1 || (kType != DType::q4_0 && kType != DType::q4_1));
  // Of as few kinds of sums as there are lengths of short ones. Bytes of eight bits are multiplied otherwise where
  // there is no vpdpbusd (IntegerSum).
  template <class W>
  using ExpandedOf = Expanded<(W::kBits == 8                 ? 8
                               : !kShortSums || W::kBits > 5 ? 6
                               : W::kBits == 5               ? 5
                                                             : 4),
                              W::kRun, W::kHasMinimum>;

  // Blocks of columns [column0, column1) in that form.
  template <class W>
  LATHE_NOINLINE static void expand(uint8_t* to, const uint8_t* group, int64_t column0, int64_t column1) {
    using E = ExpandedOf<W>;
    for (int64_t b = column0 / kBlockColumns; b < column1 / kBlockColumns; ++b, to += E::kBytes) {
      const uint8_t* section = group + b / W::kBlocks * W::kSectionBytes;
      const uint8_t* block = section + W::kHeadBytes + b % W::kBlocks * W::kBytes;
      const Head head = W::head(section);
      LATHE_FOR_WORDS(i, 8) { S::store_ints(to + i * kWordBytes, W::word(block, i)); }
      LATHE_FOR(run, W::kRuns) {
        S::store(to + E::kScaleAt + run * 4 * kGroupRows, W::scale(head, block, run));
        if constexpr (W::kHasMinimum) S::store(to + E::kMinimumAt + run * 4 * kGroupRows, W::minimum(head, block, run));
      }
    }
  }

  // ---- panels: 16 rows x some columns of any dtype, as f32, exactly or rounded to bf16 ----

  enum class Panel { exact, rounded };
  // Most of them: in f32 24 or 32 KB, which stay in the first-level cache.
  static constexpr int64_t kPanelColumns = S::kFloatGroups == 1 ? 384 : 256;
  // Columns that a panel of at most `most` takes at a time: as even as whole blocks allow.
  static constexpr int64_t stretch(int64_t columns, int64_t most) {
    const int64_t panels = (columns + most - 1) / most;
    return (columns + panels * kBlockColumns - 1) / (panels * kBlockColumns) * kBlockColumns;
  }

  template <Panel kPanel>
  static LATHE_INLINE uint8_t* put(uint8_t* panel, const Floats& first, const Floats& second) {
    S::store(panel, kPanel == Panel::exact ? first : S::round_to_bf16(first));
    S::store(panel + 64, kPanel == Panel::exact ? second : S::round_to_bf16(second));
    return panel + 128;
  }
  template <Panel kPanel, class Stored>
  static void fill_from_plain(uint8_t* panel, const uint8_t* group, int64_t column0, int64_t column1) {
    for (int64_t p = column0 / 2; p < even(column1) / 2; ++p) {
      const uint8_t* w = group + p * Stored::kPairBytes;
      panel = put<kPanel>(panel, Stored::load(w, 0), Stored::load(w, 1));
    }
  }
  template <int kByte>
  static LATHE_INLINE Floats byte_of(Ints word, float offset) {
    return S::to_floats(S::bits(word, 8 * kByte, 255)) - S::set1(offset);
  }
  template <Panel kPanel, DType kType>
  static void fill_from_quantised(uint8_t* panel, const uint8_t* group, int64_t column0, int64_t column1) {
    using W = Quantised<kType>;
    constexpr auto kOffset = static_cast<float>(W::kOffset);
    constexpr int kWords = 8 / W::kRuns;  // of a run
    for (int64_t b = column0 / kBlockColumns; b < column1 / kBlockColumns; ++b) {
      const uint8_t* section = group + b / W::kBlocks * W::kSectionBytes;
      const uint8_t* block = section + W::kHeadBytes + b % W::kBlocks * W::kBytes;
      const Head head = W::head(section);
      LATHE_FOR(run, W::kRuns) {
        const Floats scale = W::scale(head, block, run);
        Floats minimum = S::zero();
        if constexpr (W::kHasMinimum) minimum = W::minimum(head, block, run);
        LATHE_FOR_WORDS(i, kWords) {
          const Ints word = W::word(block, run * kWords + i);
          Floats v[4] = {byte_of<0>(word, kOffset) * scale, byte_of<1>(word, kOffset) * scale,
                         byte_of<2>(word, kOffset) * scale, byte_of<3>(word, kOffset) * scale};
          if constexpr (W::kHasMinimum) LATHE_FOR(j, 4) {
              v[j] = v[j] + minimum;
            }
          panel = put<kPanel>(panel, v[0], v[1]);
          panel = put<kPanel>(panel, v[2], v[3]);
        }
      }
    }
  }
  template <Panel kPanel>
  LATHE_NOINLINE static void fill(uint8_t* panel, DType dtype, const uint8_t* group, int64_t column0, int64_t column1) {
    if (dtype == DType::f32) return fill_from_plain<kPanel, StoredF32>(panel, group, column0, column1);
    if (dtype == DType::f16) return fill_from_plain<kPanel, StoredF16>(panel, group, column0, column1);
    if (dtype == DType::bf16) return fill_from_plain<kPanel, StoredBf16>(panel, group, column0, column1);
    with_quantised(
        dtype, [&](auto type) { fill_from_quantised<kPanel, decltype(type)::value>(panel, group, column0, column1); });
  }

  // The same rounded, in pairs as bf16 weights are packed.
  LATHE_NOINLINE static void fill_pairs(uint8_t* panel, DType dtype, const uint8_t* group, int64_t column0,
                                        int64_t column1) {
    alignas(64) uint8_t wide[kPanelColumns * kGroupRows * 4];
    fill<Panel::rounded>(wide, dtype, group, column0, column1);
    for (int64_t p = 0; p < even(column1 - column0) / 2; ++p)
      S::store_ints(panel + p * kWordBytes,
                    S::pair_bf16(S::load(wide + p * 2 * kWordBytes), S::load(wide + (p * 2 + 1) * kWordBytes)));
  }

  // ---- outputs: a tile's corner of y, of which the last group may be short ----

  struct Output {
    float* y;  // row 0 of the tile, token 0
    int64_t ldy;
    const float* bias;  // of row 0, or null
    int64_t rows;       // from row 0 to the end of the matrix
    bool fresh;         // the first columns: start from the bias; else go on from what y holds
    LATHE_INLINE int lanes(int group) const {
      const int64_t left = rows - group * kGroupRows;
      return left < kGroupRows ? static_cast<int>(left) : kGroupRows;
    }
    LATHE_INLINE Floats start(int group, int token) const {
      if (!fresh) return load(y + token * ldy + group * kGroupRows, lanes(group));
      return bias != nullptr ? load(bias + group * kGroupRows, lanes(group)) : S::zero();
    }
    LATHE_INLINE void finish(Floats v, int group, int token) const {
      float* to = y + token * ldy + group * kGroupRows;
      // Masked stores of AVX2 are microcoded on Zen by public instruction tables, which was not measured here.
      if (const int n = lanes(group); n == kGroupRows)
        S::store(to, v);
      else
        S::store_partial(to, v, n);
    }

   private:
    static LATHE_INLINE Floats load(const float* p, int n) {
      return n == kGroupRows ? S::load(p) : S::load_partial(p, n);
    }
  };

  static LATHE_INLINE Output output_of(const LinearTask& task, int64_t group, int64_t token, bool fresh) {
    const int64_t row = group * kGroupRows;
    return {task.y + token * task.ldy + row, task.ldy, task.bias != nullptr ? task.bias + row : nullptr,
            task.weight.rows - row, fresh};
  }

  // Bytes that a decoding tile fetches ahead, across page borders, into the second level: fetches into the first level
  // take the buffers that loads wait for (10.3 against 13.0 GB/s of q4_0 on one core).
  static constexpr int64_t kAhead = 16384;
  template <int kBytes>
  static LATHE_INLINE void prefetch(const uint8_t* p) {
    LATHE_FOR(i, (kBytes + 63) / 64) { __builtin_prefetch(p + kAhead + 64 * i, 0, 2); }
  }

  // ---- float tiles ----

  // x: [pair][2][kTokens]
  template <class Stored, int kGroups, int kTokens>
  LATHE_NOINLINE static void float_tile(const uint8_t* w, int64_t stride, const float* x, int64_t pairs,
                                        const Output& out) {
    Floats sum[kGroups][kTokens];
    LATHE_FOR(g, kGroups) {
      LATHE_FOR(t, kTokens) { sum[g][t] = out.start(g, t); }
    }
    for (int64_t p = 0; p < pairs; ++p, w += Stored::kPairBytes) {
      if constexpr (kTokens == 1) prefetch<Stored::kPairBytes>(w);
      // The second column is loaded when the first is done with: sums and both do not fit 16 registers.
      LATHE_FOR(column, 2) {
        Floats weights[kGroups];
        LATHE_FOR(g, kGroups) { weights[g] = Stored::load(w + g * stride, column); }
        LATHE_FOR(t, kTokens) {
          const Floats xt = S::set1(x[column * kTokens + t]);
          LATHE_FOR(g, kGroups) { sum[g][t] = S::fma(weights[g], xt, sum[g][t]); }
        }
      }
      x += 2 * kTokens;
    }
    LATHE_FOR(g, kGroups) {
      LATHE_FOR(t, kTokens) { out.finish(sum[g][t], g, t); }
    }
  }

  template <class Stored, int kGroups, int kTokens>
  static void float_tile_of(int tokens, const uint8_t* w, int64_t stride, const float* x, int64_t pairs,
                            const Output& out) {
    if constexpr (kTokens > 1)
      if (tokens < kTokens) return float_tile_of<Stored, kGroups, kTokens - 1>(tokens, w, stride, x, pairs, out);
    float_tile<Stored, kGroups, kTokens>(w, stride, x, pairs, out);
  }

  // How far a tile's groups are apart. Where only one is left the tile takes it twice, and the second ends nowhere.
  static int64_t tile_stride(const LinearTask& task, int64_t group, int64_t stride) {
    return (group + 1) * kGroupRows < task.weight.rows ? stride : 0;
  }
  // f(g) for the groups of a tile that are there.
  template <int kGroups, class F>
  static LATHE_INLINE void over_groups(const LinearTask& task, int64_t group, F f) {
    f(0);
    if (kGroups > 1 && (group + 1) * kGroupRows < task.weight.rows) f(1);
  }

  // Tokens [token0, token1), which start at a tile border, through columns [column0, column1) of some groups.
  template <class Stored, int kGroups>
  static void float_strip(const LinearTask& task, const uint8_t* w, int64_t stride, int64_t group, int64_t column0,
                          int64_t column1, int64_t token0, int64_t token1) {
    const int64_t columns = even(task.weight.columns);
    for (int64_t t = token0; t < token1; t += S::kFloatTokens) {
      const int tokens = static_cast<int>(token1 - t < S::kFloatTokens ? token1 - t : S::kFloatTokens);
      const float* x = task.x.words + t * columns + column0 * tokens;
      const Output out = output_of(task, group, t, column0 == 0);
      float_tile_of<Stored, kGroups, S::kFloatTokens>(tokens, w, stride, x, even(column1 - column0) / 2, out);
    }
  }

  // Many tokens: where a tile has one group of rows and so few tokens that they wait for the weights, these are taken
  // in stretches of columns that stay in the first-level cache, and are widened once.
  template <int kGroups>
  static constexpr bool many(int64_t tokens) {
    return kGroups == 1 && tokens > S::kFloatTokens;
  }

  template <class Stored, int kGroups>
  static void stored_groups(const LinearTask& task, int64_t group, int64_t token0, int64_t token1) {
    const int64_t columns = task.weight.columns, stride = group_bytes(task.weight.dtype, columns);
    const int64_t step = many<kGroups>(token1 - token0) ? stretch(columns, kPanelColumns) : columns;
    for (int64_t column = 0; column < columns; column += step)
      float_strip<Stored, kGroups>(task, task.weight.data + group * stride + column / 2 * Stored::kPairBytes,
                                   tile_stride(task, group, stride), group, column,
                                   column + step < columns ? column + step : columns, token0, token1);
  }

  // Weights that must be widened or rounded go through a panel on the stack, some columns at a time.
  template <Panel kPanel, int kGroups>
  static void panel_groups(const LinearTask& task, int64_t group, int64_t token0, int64_t token1) {
    constexpr int64_t kStride = kPanelColumns * kGroupRows * 4;
    alignas(64) uint8_t panel[kGroups * kStride];
    const int64_t columns = task.weight.columns, stride = group_bytes(task.weight.dtype, columns);
    const int64_t step = stretch(columns, kPanelColumns);
    for (int64_t column = 0; column < columns; column += step) {
      const int64_t end = column + step < columns ? column + step : columns;
      over_groups<kGroups>(task, group, [&](int g) {
        fill<kPanel>(panel + g * kStride, task.weight.dtype, task.weight.data + (group + g) * stride, column, end);
      });
      float_strip<StoredF32, kGroups>(task, panel, tile_stride(task, group, kStride), group, column, end, token0,
                                      token1);
    }
  }

  template <int kGroups, Arithmetic kArithmetic>
  static void float_groups(const LinearTask& task, int64_t group, int64_t token0, int64_t token1) {
    const DType dtype = task.weight.dtype;
    if (kArithmetic == Arithmetic::bf16 && dtype != DType::bf16)
      return panel_groups<Panel::rounded, kGroups>(task, group, token0, token1);
    if (dtype != DType::f32 && many<kGroups>(token1 - token0))
      return panel_groups<Panel::exact, kGroups>(task, group, token0, token1);
    switch (dtype) {
      case DType::f32: return stored_groups<StoredF32, kGroups>(task, group, token0, token1);
      case DType::f16: return stored_groups<StoredF16, kGroups>(task, group, token0, token1);
      case DType::bf16: return stored_groups<StoredBf16, kGroups>(task, group, token0, token1);
      default: return panel_groups<Panel::exact, kGroups>(task, group, token0, token1);
    }
  }

  // ---- tiles of bf16 pairs, where the instruction set multiplies them ----

  // x: [pair][kTokens]
  template <int kGroups, int kTokens>
  LATHE_NOINLINE static void pair_tile(const uint8_t* w, int64_t stride, const int32_t* x, int64_t pairs,
                                       const Output& out) {
    Floats sum[kGroups][kTokens];
    LATHE_FOR(g, kGroups) {
      LATHE_FOR(t, kTokens) { sum[g][t] = out.start(g, t); }
    }
    for (int64_t p = 0; p < pairs; ++p, w += kWordBytes, x += kTokens) {
      if constexpr (kTokens == 1) prefetch<kWordBytes>(w);
      Ints words[kGroups];
      LATHE_FOR(g, kGroups) { words[g] = S::load_ints(w + g * stride); }
      LATHE_FOR(t, kTokens) {
        LATHE_FOR(g, kGroups) { sum[g][t] = S::add_pair_products(sum[g][t], words[g], x[t]); }
      }
    }
    LATHE_FOR(g, kGroups) {
      LATHE_FOR(t, kTokens) { out.finish(sum[g][t], g, t); }
    }
  }
  template <int kGroups, int kTokens>
  static void pair_tile_of(int tokens, const uint8_t* w, int64_t stride, const int32_t* x, int64_t pairs,
                           const Output& out) {
    if constexpr (kTokens > 1)
      if (tokens < kTokens) return pair_tile_of<kGroups, kTokens - 1>(tokens, w, stride, x, pairs, out);
    pair_tile<kGroups, kTokens>(w, stride, x, pairs, out);
  }
  // As float_strip.
  template <int kGroups>
  static void pair_strip(const LinearTask& task, const uint8_t* w, int64_t stride, int64_t group, int64_t column0,
                         int64_t column1, int64_t token0, int64_t token1) {
    const int64_t pairs = even(task.weight.columns) / 2;
    for (int64_t t = token0; t < token1; t += S::kFloatTokens) {
      const int tokens = static_cast<int>(token1 - t < S::kFloatTokens ? token1 - t : S::kFloatTokens);
      const auto* x = reinterpret_cast<const int32_t*>(task.x.words) + t * pairs + column0 / 2 * tokens;
      const Output out = output_of(task, group, t, column0 == 0);
      pair_tile_of<kGroups, S::kFloatTokens>(tokens, w, stride, x, even(column1 - column0) / 2, out);
    }
  }
  template <int kGroups>
  static void pair_groups(const LinearTask& task, int64_t group, int64_t token0, int64_t token1) {
    const int64_t columns = task.weight.columns, stride = group_bytes(task.weight.dtype, columns);
    const uint8_t* w = task.weight.data + group * stride;
    if (task.weight.dtype == DType::bf16)
      return pair_strip<kGroups>(task, w, tile_stride(task, group, stride), group, 0, columns, token0, token1);
    constexpr int64_t kStride = kPanelColumns / 2 * kWordBytes;
    alignas(64) uint8_t panel[kGroups * kStride];
    const int64_t step = stretch(columns, kPanelColumns);
    for (int64_t column = 0; column < columns; column += step) {
      const int64_t end = column + step < columns ? column + step : columns;
      over_groups<kGroups>(
          task, group, [&](int g) { fill_pairs(panel + g * kStride, task.weight.dtype, w + g * stride, column, end); });
      pair_strip<kGroups>(task, panel, tile_stride(task, group, kStride), group, column, end, token0, token1);
    }
  }
  // Repacks tokens [token0, token1), which start at a tile border.
  static void pack_pairs(const PackedTokens& tokens_out, const float* x, int64_t ldx, int64_t columns, int64_t token0,
                         int64_t token1) {
    for (int64_t t = token0; t < token1; t += S::kFloatTokens) {
      const int64_t tokens = token1 - t < S::kFloatTokens ? token1 - t : S::kFloatTokens, pairs = even(columns) / 2;
      auto* to = reinterpret_cast<uint32_t*>(tokens_out.words) + t * pairs;
      for (int64_t i = 0; i < tokens; ++i) {
        const float* from = x + (t + i) * ldx;
        for (int64_t c = 0; c < columns; c += 2) {
          const uint32_t second = c + 1 < columns ? f32_to_bf16(from[c + 1]) : 0;
          to[c / 2 * tokens + i] = f32_to_bf16(from[c]) | second << 16;
        }
      }
    }
  }

  // ---- integer tiles ----

  // The sums of products of one run. Packed activations: [word][kTokens].
  template <class W, int kGroups, int kTokens>
  struct TokenSums {
    using Sum = typename S::template IntegerSum<W::kBits>;
    static constexpr int kWords = 8 / W::kRuns;  // of a run
    Sum sum[kGroups][kTokens];
    LATHE_INLINE void begin(const TokenBlock* xb, int run, int32_t offset) {
      LATHE_FOR(g, kGroups) {
        LATHE_FOR(t, kTokens) { sum[g][t] = Sum::begin(W::start(xb[t], run, offset)); }
      }
    }
    LATHE_INLINE void add(const uint8_t* block, int64_t stride, const int32_t* x, int run) {
      LATHE_FOR_WORDS(i, kWords) {
        Ints word[kGroups];
        LATHE_FOR(g, kGroups) { word[g] = W::word(block + g * stride, run * kWords + i); }
        LATHE_FOR(t, kTokens) {
          LATHE_FOR(g, kGroups) { sum[g][t].add(word[g], x[(run * kWords + i) * kTokens + t]); }
        }
        LATHE_FOR(t, kTokens) {
          LATHE_FOR(g, kGroups) { carry(sum[g][t], i, kWords); }
        }
      }
    }
    LATHE_INLINE Floats end(int g, int t, int32_t start) const { return sum[g][t].end(start); }
  };
  // The same where an instruction multiplies matrices: two tokens at a time, [word / 2][kTokens][2]. A last token
  // without a second one takes what lies behind it, and no output takes the sum.
  template <class W, int kGroups, int kTokens>
  struct TokenPairSums {
    static constexpr int kWords = 8 / W::kRuns, kPairs = (kTokens + 1) / 2;
    typename S::MatrixSum sum[kGroups][kPairs];
    LATHE_INLINE void begin(const TokenBlock* xb, int run, int32_t offset) {
      LATHE_FOR(p, kPairs) {
        const int32_t first = W::start(xb[2 * p], run, offset);
        const int32_t second = 2 * p + 1 < kTokens ? W::start(xb[2 * p + 1], run, offset) : 0;
        LATHE_FOR(g, kGroups) { sum[g][p] = S::MatrixSum::begin(first, second); }
      }
    }
    LATHE_INLINE void add(const uint8_t* block, int64_t stride, const int32_t* x, int run) {
      LATHE_FOR_WORDS(i, kWords / 2) {
        LATHE_FOR(g, kGroups) {
          const Ints word = W::word(block + g * stride, run * kWords + 2 * i);
          const Ints next = W::word(block + g * stride, run * kWords + 2 * i + 1);
          LATHE_FOR(p, kPairs) { sum[g][p].add(word, next, x + ((run * kWords / 2 + i) * kTokens + 2 * p) * 2); }
        }
      }
    }
    LATHE_INLINE Floats end(int g, int t, int32_t) const { return sum[g][t / 2].end(t % 2); }
  };
  template <class W, int kGroups, int kTokens>
  static auto run_sums() {
    if constexpr (S::kMultipliesMatrices && kTokens > 1)
      return TokenPairSums<W, kGroups, kTokens>{};
    else
      return TokenSums<W, kGroups, kTokens>{};
  }
  template <class W, int kGroups, int kTokens>
  using RunSums = decltype(run_sums<W, kGroups, kTokens>());

  template <class W, int kGroups, int kTokens>
  LATHE_NOINLINE static void integer_tile(const uint8_t* w, int64_t stride, int32_t offset, const int32_t* x,
                                          const TokenBlock* xb, int64_t sections, const Output& out) {
    Floats y[kGroups][kTokens];
    LATHE_FOR(g, kGroups) {
      LATHE_FOR(t, kTokens) { y[g][t] = out.start(g, t); }
    }
    for (int64_t s = 0; s < sections; ++s, w += W::kSectionBytes) {
      Head head[kGroups];
      LATHE_FOR(g, kGroups) { head[g] = W::head(w + g * stride); }
      const uint8_t* block = w + W::kHeadBytes;
      for (int b = 0; b < W::kBlocks; ++b, block += W::kBytes, x += 8 * kTokens, xb += kTokens) {
        if constexpr (kTokens <= 2) prefetch<W::kBytes>(block);
        LATHE_FOR(run, W::kRuns) {
          RunSums<W, kGroups, kTokens> sums;
          sums.begin(xb, run, offset);
          sums.add(block, stride, x, run);
          LATHE_FOR(g, kGroups) {
            const Floats scale = W::scale(head[g], block + g * stride, run);
            LATHE_FOR(t, kTokens) {
              y[g][t] = S::fused(sums.end(g, t, W::start(xb[t], run, offset)) * scale, S::set1(xb[t].scale), y[g][t]);
            }
            if constexpr (W::kHasMinimum) {
              const Floats minimum = W::minimum(head[g], block + g * stride, run);
              LATHE_FOR(t, kTokens) {
                const float total = W::kRuns == 1 ? xb[t].scaled_sum : xb[t].scaled_half_sum[run];
                y[g][t] = S::fused(minimum, S::set1(total), y[g][t]);
              }
            }
          }
        }
      }
    }
    LATHE_FOR(g, kGroups) {
      LATHE_FOR(t, kTokens) { out.finish(y[g][t], g, t); }
    }
  }

  template <class W, int kGroups, int kTokens>
  static void integer_tile_of(int tokens, const uint8_t* w, int64_t stride, int32_t offset, const int32_t* x,
                              const TokenBlock* xb, int64_t sections, const Output& out) {
    if constexpr (kTokens > 1)
      if (tokens < kTokens)
        return integer_tile_of<W, kGroups, kTokens - 1>(tokens, w, stride, offset, x, xb, sections, out);
    integer_tile<W, kGroups, kTokens>(w, stride, offset, x, xb, sections, out);
  }

  // As float_strip; kMostTokens is the tile's height.
  template <class W, int kGroups, int kMostTokens>
  static void integer_strip(const LinearTask& task, const uint8_t* w, int64_t stride, int32_t offset, int64_t group,
                            int64_t column0, int64_t column1, int64_t token0, int64_t token1) {
    const int64_t columns = task.weight.columns;
    for (int64_t t = token0; t < token1; t += S::kIntegerTokens) {
      const int tokens = static_cast<int>(token1 - t < S::kIntegerTokens ? token1 - t : S::kIntegerTokens);
      const Output out = output_of(task, group, t, column0 == 0);
      integer_tile_of<W, kGroups, kMostTokens>(
          tokens, w, stride, offset, task.x.int8_words + t * (columns / 4) + column0 / 4 * tokens,
          task.x.blocks + t * (columns / kBlockColumns) + column0 / kBlockColumns * tokens,
          (column1 - column0) / (kBlockColumns * W::kBlocks), out);
    }
  }

  template <DType kType, int kGroups>
  static void expanded_groups(const LinearTask& task, int64_t group, int64_t token0, int64_t token1) {
    using W = Quantised<kType>;
    using E = ExpandedOf<W>;
    constexpr int64_t kMost = 1024 / kGroups, kStride = kMost / kBlockColumns * E::kBytes;
    alignas(64) uint8_t panel[kGroups * kStride];
    const int64_t columns = task.weight.columns, stride = quantised_group_bytes<kType>(columns);
    const int64_t step = stretch(columns, kMost);
    for (int64_t column = 0; column < columns; column += step) {
      const int64_t end = column + step < columns ? column + step : columns;
      over_groups<kGroups>(task, group, [&](int g) {
        expand<W>(panel + g * kStride, task.weight.data + (group + g) * stride, column, end);
      });
      integer_strip<E, kGroups, S::kIntegerTokens>(task, panel, tile_stride(task, group, kStride), W::kOffset, group,
                                                   column, end, token0, token1);
    }
  }

  // kGroups groups, or those that are left, of some tokens, or kGroups = 1 and a single token.
  template <DType kType, int kGroups, bool kSingle>
  static void integer_groups(const LinearTask& task, int64_t group, int64_t token0, int64_t token1) {
    if constexpr (kExpands<kType> && !kSingle) {
      expanded_groups<kType, kGroups>(task, group, token0, token1);
    } else {
      const int64_t stride = quantised_group_bytes<kType>(task.weight.columns);
      integer_strip<Quantised<kType>, kGroups, kSingle ? 2 : S::kIntegerTokens>(
          task, task.weight.data + group * stride, tile_stride(task, group, stride), 0, group, 0, task.weight.columns,
          token0, token1);
    }
  }

  template <int kGroups, Arithmetic kArithmetic, bool kSingle>
  static void groups(const LinearTask& task, int64_t group, int64_t token0, int64_t token1) {
    if constexpr (kArithmetic == Arithmetic::int8)
      with_quantised(task.weight.dtype, [&](auto type) {
        integer_groups<decltype(type)::value, kGroups, kSingle>(task, group, token0, token1);
      });
    else if constexpr (kArithmetic == Arithmetic::bf16 && S::kMultipliesBf16)
      pair_groups<kGroups>(task, group, token0, token1);
    else
      float_groups<kGroups, kArithmetic>(task, group, token0, token1);
  }

  // ---- what the table offers ----

  template <Arithmetic kArithmetic>
  static void multiply(const LinearTask& whole, int64_t group0, int64_t group1, int64_t token0, int64_t token1) {
    LinearTask task = whole;
    if (group1 * kGroupRows < task.weight.rows) task.weight.rows = group1 * kGroupRows;
    // One token, or the two halves of one, reads one group at a time where the bytes are the limit, so that it walks
    // one linear stream.
    if constexpr (kArithmetic == Arithmetic::int8)
      if (token1 - token0 <= 2) {
        for (int64_t group = group0; group < group1; ++group) groups<1, kArithmetic, true>(task, group, token0, token1);
        return;
      }
    constexpr int kMost = kArithmetic == Arithmetic::int8 ? S::kIntegerGroups : S::kFloatGroups;
    static_assert(kMost <= 2);
    for (int64_t group = group0; group < group1; group += kMost)
      groups<kMost, kArithmetic, false>(task, group, token0, token1);
  }

  // Repacks tokens [token0, token1), which start at a tile border, for the float tiles.
  template <bool kRound>
  static void pack_floats(const PackedTokens& tokens_out, const float* x, int64_t ldx, int64_t columns, int64_t token0,
                          int64_t token1) {
    for (int64_t t = token0; t < token1; t += S::kFloatTokens) {
      const int64_t tokens = token1 - t < S::kFloatTokens ? token1 - t : S::kFloatTokens;
      for (int64_t i = 0; i < tokens; ++i) {
        const float* from = x + (t + i) * ldx;
        float* to = tokens_out.words + t * even(columns) + i;
        for (int64_t c = 0; c < columns; ++c) to[c * tokens] = kRound ? bf16_to_f32(f32_to_bf16(from[c])) : from[c];
        if (columns % 2 != 0) to[columns * tokens] = 0.0f;
      }
    }
  }

  // Quantises 32 activations: scale amax / 127, to nearest even. A block that holds NaN or infinity gets the scale
  // NaN, so that it shows; one whose scale would be subnormal counts as zeros. q: whole numbers.
  static LATHE_INLINE void quantise_block(Floats* q, TokenBlock& block, const float* x) {
    const Floats v[2] = {S::load(x), S::load(x + 16)};
    const uint32_t most = S::largest_magnitude(v[0], v[1]);
    float amax;
    __builtin_memcpy(&amax, &most, 4);
    const bool finite = most < 0x7f800000u, regular = finite && amax > 0x1p-110f;
    const Floats inverse = S::set1(regular ? 127.0f / amax : 0.0f),
                 rounder = S::set1(12582912.0f);  // the ulp there is 1
    LATHE_FOR(half, 2) {
      q[half] = regular ? v[half] * inverse + rounder - rounder : S::zero();
      block.half_sum[half] = static_cast<int32_t>(S::sum(q[half]));
    }
    const int32_t sum = block.half_sum[0] + block.half_sum[1];
    block.scale = !finite ? __builtin_nanf("") : regular ? amax / 127.0f : 0.0f;
    block.scaled_sum = block.scale * static_cast<float>(sum);
    LATHE_FOR(half, 2) { block.scaled_half_sum[half] = block.scale * static_cast<float>(block.half_sum[half]); }
    block.start4 = -8 * sum;
    block.start8 = -128 * sum;
  }
  // Tokens [token0, token1), the halves of a row side by side where there are two: the second is what the first leaves.
  template <int kHalves>
  static void pack_integers(const PackedTokens& tokens_out, const float* x, int64_t ldx, int64_t columns,
                            int64_t token0, int64_t token1) {
    static_assert(S::kIntegerTokens % kHalves == 0);
    for (int64_t t = token0; t < token1; t += S::kIntegerTokens) {
      const int64_t tokens = token1 - t < S::kIntegerTokens ? token1 - t : S::kIntegerTokens;
      int32_t* to = tokens_out.int8_words + t * (columns / 4);
      TokenBlock* block = tokens_out.blocks + t * (columns / kBlockColumns);
      for (int64_t i = 0; i < tokens; i += kHalves)
        for (int64_t b = 0; b < columns / kBlockColumns; ++b) {
          alignas(64) float rest[kBlockColumns];
          const float* from = x + (t + i) / kHalves * ldx + b * kBlockColumns;
          LATHE_FOR(h, kHalves) {
            Floats q[2];
            TokenBlock& own = block[b * tokens + i + h];
            quantise_block(q, own, from);
            alignas(32) int8_t bytes[kBlockColumns];
            LATHE_FOR(half, 2) { S::store_bytes(bytes + half * 16, q[half]); }
            constexpr int kTogether = S::kMultipliesMatrices ? 2 : 1;  // words of a token
            for (int64_t j = 0; j < 8; ++j) {
              const int64_t word = b * 8 + j, at = (word / kTogether * tokens + i + h) * kTogether + word % kTogether;
              __builtin_memcpy(to + at, bytes + 4 * j, 4);
            }
            if (h + 1 == kHalves) break;
            take_away(rest, from, q, own.scale);
            from = rest;
          }
        }
    }
  }
  // What is left of 32 activations.
  static LATHE_INLINE void take_away(float* rest, const float* x, const Floats* q, float scale) {
    for (int i = 0; i < 2; ++i) S::store(rest + 16 * i, S::load(x + 16 * i) - q[i] * S::set1(scale));
  }

  static constexpr LinearKernels kF32{S::kFloatTokens, 4 * kBlockColumns, pack_floats<false>, nullptr,
                                      multiply<Arithmetic::f32>};
  static constexpr LinearKernels kBf16{S::kFloatTokens, (S::kMultipliesBf16 ? 2 : 4) * kBlockColumns,
                                       S::kMultipliesBf16 ? pack_pairs : pack_floats<true>, nullptr,
                                       multiply<Arithmetic::bf16>};
  static constexpr LinearKernels kInt8{S::kIntegerTokens, kBlockColumns + sizeof(TokenBlock), pack_integers<1>,
                                       pack_integers<2>, multiply<Arithmetic::int8>};
  static constexpr LinearTable kTable{{kF32, kBf16, kInt8}, {kF32, kBf16, kInt8}, {}};
};

}  // namespace lathe::cpu
