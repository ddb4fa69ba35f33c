// Tiles of the inference linears in AMX registers: 16 tokens x 16 rows a tile. Included by kernels_amx.cpp.
//
// Both arithmetics use tiles of bf16, which hold whole numbers up to 256.
// int8: the sums over the 32 (or 16) columns that share a scale are whole numbers below 2^24 and therefore exact, those
//   of the vector tiles bit for bit; they leave the tile to be scaled as packed_linear_tiles.h scales them. Tiles of
//   int8 would take the same time, because 32 columns fill them by half, and their sums would still have to be
//   converted.
// bf16: a tile keeps its sums over all columns. The hardware adds 32 columns as two chains of fused multiply-adds, over
//   the even and the odd ones, and adds both to the sum. `chains` takes the same steps with vector instructions, for
//   what is too small for a tile, so that decoding has the bits of prefill.
#pragma once
#include "kernels/cpu/amx.h"
#include "kernels/cpu/packed_linear_tiles.h"

namespace lathe::cpu {

template <class S>
struct AmxTiles {
  using Vector = LinearTiles<S>;
  using Floats = typename S::Floats;
  using Output = typename Vector::Output;

  static constexpr int kTokens = kAmxTokens;
  // Up to here vector tiles are no slower. Whole numbers must be made from int8 for the tiles, which few tokens do not
  // pay for: SmolLM2 Q4_1 decodes 4 sequences at 681 tokens/s in vectors and 333 in tiles, 16 at 1,090 and 886, 32 at
  // 1,126 and 1,066.
  static constexpr int kFewTokensBf16 = 3, kFewTokensInt8 = 32;
  static constexpr int kChunkColumns = 32;  // of a tile
  static constexpr int64_t kTileBytes = 1024;

  // Tiles 0 to 3 hold sums, 4 and 5 tokens, 6 and 7 weights. `columns` of a product: 32 or 16.
  static constexpr TileShapes shapes(int columns) {
    TileShapes s;
    for (int tile = 0; tile < 8; ++tile) {
      s.rows[tile] = static_cast<uint8_t>(tile < 6 ? 16 : columns / 2);
      s.row_bytes[tile] = static_cast<uint16_t>(tile == 4 || tile == 5 ? 2 * columns : 64);
    }
    return s;
  }
  template <int kColumns>
  static constexpr TileShapes kShapes = shapes(kColumns);

  template <int kTile>
  struct TileNumber {
    static constexpr int value = kTile;
  };

  // ---- int8 ----

  // Weights of some form (Quantised) as the tiles want them: whole numbers as pairs of bf16, scales and minima in f32.
  // Of four columns the tile holds 0, 2, 1, 3: so the 16-bit halves of a word become pairs without a shuffle. pack_int8
  // orders tokens alike.
  template <int kRunsOf32, bool kMinimum>
  struct Panel {
    static constexpr int kRuns = kRunsOf32, kScaleAt = kTileBytes, kMinimumAt = kScaleAt + kRuns * 4 * kGroupRows;
    static constexpr bool kHasMinimum = kMinimum;
    static constexpr int kBytes = kMinimumAt + (kHasMinimum ? kRuns * 4 * kGroupRows : 0);

    template <DType kType>
    static void fill(uint8_t* panel, const uint8_t* group, int64_t column0, int64_t column1) {
      using W = typename Vector::template Quantised<kType>;
      const typename S::template WholeNumbers<kType> numbers;
      for (int64_t b = column0 / kBlockColumns; b < column1 / kBlockColumns; ++b, panel += kBytes) {
        const uint8_t* section = group + b / W::kBlocks * W::kSectionBytes;
        const uint8_t* block = section + W::kHeadBytes + b % W::kBlocks * W::kBytes;
        const auto head = W::head(section);
        LATHE_FOR(i, 8) { numbers.put(panel + i * 2 * kWordBytes, W::stored(block, i)); }
        LATHE_FOR(run, W::kRuns) {
          S::store(panel + kScaleAt + run * 4 * kGroupRows, W::scale(head, block, run));
          if constexpr (W::kHasMinimum)
            S::store(panel + kMinimumAt + run * 4 * kGroupRows, W::minimum(head, block, run));
        }
      }
    }
  };

  // One group times 16 tokens over the columns of a panel. x: [block][16 tokens][32 columns] bf16.
  template <class P>
  LATHE_NOINLINE static void int8_tile(const uint8_t* panel, const uint8_t* x, const AmxTokenBlock* xb, int64_t blocks,
                                       const Output& out, int tokens) {
    constexpr int kRuns = P::kRuns;
    alignas(64) float sums[2][kTokens * kGroupRows];
    Floats y[kTokens];
    LATHE_FOR(t, kTokens) { y[t] = t < tokens ? out.start(0, t) : S::zero(); }
    const int64_t runs = blocks * kRuns;
    const auto multiply = [&](auto parity, int64_t r) __attribute__((always_inline)) {
      constexpr int kParity = decltype(parity)::value;
      Amx::zero<kParity>();
      Amx::load<4 + kParity>(x + r / kRuns * kTileBytes + r % kRuns * 32, 64);
      Amx::load<6 + kParity>(panel + r / kRuns * P::kBytes + r % kRuns * (kTileBytes / 2), 64);
      Amx::add_products_bf16<kParity, 4 + kParity, 6 + kParity>();
    };
    const auto scale = [&](int64_t r) __attribute__((always_inline)) {
      const uint8_t* block = panel + r / kRuns * P::kBytes + r % kRuns * 4 * kGroupRows;
      const AmxTokenBlock& xr = xb[r / kRuns];
      const Floats scales = S::load(block + P::kScaleAt);
      LATHE_FOR(t, kTokens) {
        y[t] = S::fused(S::load(sums[r % 2] + t * kGroupRows) * scales, S::set1(xr.scale[t]), y[t]);
      }
      if constexpr (P::kHasMinimum) {
        const Floats minima = S::load(block + P::kMinimumAt);
        const float* totals = kRuns == 1 ? xr.scaled_sum : xr.scaled_half_sum[r % kRuns];
        LATHE_FOR(t, kTokens) { y[t] = S::fused(minima, S::set1(totals[t]), y[t]); }
      }
    };
    // Two tiles take turns. A tile's sums are stored one run after its product began, and scaled one run later still:
    // tiles and vectors wait for each other as little as they can (15 ns a run against 20 without the delay).
    const TileNumber<0> even_tile;
    const TileNumber<1> odd_tile;
    multiply(even_tile, 0);
    if (1 < runs) multiply(odd_tile, 1);
    Amx::store<0>(sums[0], 64);
    if (2 < runs) multiply(even_tile, 2);
    for (int64_t r = 0; r < runs; r += 2) {
      if (r + 1 < runs) Amx::store<1>(sums[1], 64);
      if (r + 3 < runs) multiply(odd_tile, r + 3);
      scale(r);
      if (r + 1 >= runs) break;
      if (r + 2 < runs) Amx::store<0>(sums[0], 64);
      if (r + 4 < runs) multiply(even_tile, r + 4);
      scale(r + 1);
    }
    LATHE_FOR(t, kTokens) {
      if (t < tokens) out.finish(y[t], 0, t);
    }
  }

  template <DType kType>
  static void int8_groups(const LinearTask& task, int64_t group0, int64_t group1, int64_t token0, int64_t token1) {
    using W = typename Vector::template Quantised<kType>;
    using P = Panel<W::kRuns, W::kHasMinimum>;
    constexpr int64_t kColumns = 768;  // of a panel, which stays in the first-level cache
    alignas(64) uint8_t panel[kColumns / kBlockColumns * P::kBytes];
    const int64_t columns = task.weight.columns, count = columns / kBlockColumns;
    const int64_t stride = quantised_group_bytes<kType>(columns);
    const auto* tiles = reinterpret_cast<const uint8_t*>(task.x.int8_words);
    const auto* blocks = reinterpret_cast<const AmxTokenBlock*>(task.x.blocks);
    for (int64_t group = group0; group < group1; ++group)
      for (int64_t column = 0; column < columns; column += kColumns) {
        const int64_t end = column + kColumns < columns ? column + kColumns : columns;
        P::template fill<kType>(panel, task.weight.data + group * stride, column, end);
        for (int64_t t = token0; t < token1; t += kTokens) {
          const Output out = Vector::output_of(task, group, t, column == 0);
          const int64_t tile = t / kTokens * count + column / kBlockColumns;
          int8_tile<P>(panel, tiles + tile * kTileBytes, blocks + tile, (end - column) / kBlockColumns, out,
                       static_cast<int>(token1 - t < kTokens ? token1 - t : kTokens));
        }
      }
  }

  // ---- bf16 ----

  static int64_t chunks(int64_t columns) { return (columns + kChunkColumns - 1) / kChunkColumns; }

  // The sums of 16 tokens x 16 rows before or after: [token][row] f32.
  static LATHE_INLINE void start(float* sums, const Output& out, int group, int tokens) {
    for (int t = 0; t < kTokens; ++t) S::store(sums + t * kGroupRows, t < tokens ? out.start(group, t) : S::zero());
  }
  static LATHE_INLINE void finish(const float* sums, const Output& out, int group, int tokens) {
    for (int t = 0; t < tokens; ++t) out.finish(S::load(sums + t * kGroupRows), group, t);
  }

  // kGroups groups times kSets sets of 16 tokens, of which the last has `tokens`, over `whole` tiles of 32 columns and,
  // where `rest` is not null, one more of them that is filled up with zeros. x: [set][chunk][16 tokens][32 columns]
  // bf16.
  template <int kGroups, int kSets>
  LATHE_NOINLINE static void bf16_tile(const uint8_t* w, int64_t stride, const uint8_t* rest, const uint8_t* x,
                                       int64_t set_bytes, int64_t whole, const Output* out, int tokens) {
    alignas(64) float sums[kTokens * kGroupRows];
    each_tile<kGroups, kSets>([&](auto tile, int group, int set) __attribute__((always_inline)) {
      start(sums, out[set], group, set + 1 < kSets ? kTokens : tokens);
      Amx::load<decltype(tile)::value>(sums, 64);
    });
    const auto step = [&](const uint8_t* weights, int64_t weight_stride) __attribute__((always_inline)) {
      Amx::load<4>(x, 64);
      Amx::load<6>(weights, 64);
      Amx::add_products_bf16<0, 4, 6>();
      if constexpr (kGroups == 2) {
        Amx::load<7>(weights + weight_stride, 64);
        Amx::add_products_bf16<1, 4, 7>();
      }
      if constexpr (kSets == 2) {
        Amx::load<5>(x + set_bytes, 64);
        Amx::add_products_bf16<2, 5, 6>();
        if constexpr (kGroups == 2) Amx::add_products_bf16<3, 5, 7>();
      }
      x += kTileBytes;
    };
    for (int64_t c = 0; c < whole; ++c) step(w + c * kTileBytes, stride);
    if (rest != nullptr) step(rest, kTileBytes);
    each_tile<kGroups, kSets>([&](auto tile, int group, int set) __attribute__((always_inline)) {
      Amx::store<decltype(tile)::value>(sums, 64);
      finish(sums, out[set], group, set + 1 < kSets ? kTokens : tokens);
    });
  }
  template <int kGroups, int kSets, class F>
  static LATHE_INLINE void each_tile(F f) {  // tile 2 set + group
    f(TileNumber<0>(), 0, 0);
    if constexpr (kGroups == 2) f(TileNumber<1>(), 1, 0);
    if constexpr (kSets == 2) f(TileNumber<2>(), 0, 1);
    if constexpr (kGroups == 2 && kSets == 2) f(TileNumber<3>(), 1, 1);
  }

  // Columns [column0, column1) of some groups, whose pairs lie at w, for tokens [token0, token1).
  template <int kGroups>
  static void bf16_strip(const LinearTask& task, const uint8_t* w, int64_t stride, int64_t group, int64_t column0,
                         int64_t column1, int64_t token0, int64_t token1) {
    const int64_t set_bytes = chunks(task.weight.columns) * kTileBytes;
    const int64_t pairs = even(column1 - column0) / 2, whole = pairs / 16;
    alignas(64) uint8_t rest[2 * kTileBytes] = {};
    for (int g = 0; g < kGroups; ++g)
      __builtin_memcpy(rest + g * kTileBytes, w + g * stride + whole * kTileBytes,
                       static_cast<size_t>(pairs % 16 * kWordBytes));
    const auto* tokens = reinterpret_cast<const uint8_t*>(task.x.words);
    for (int64_t t = token0; t < token1;) {
      const int sets = token1 - t > kTokens ? 2 : 1;
      Output out[2];
      for (int set = 0; set < sets; ++set) out[set] = Vector::output_of(task, group, t + set * kTokens, column0 == 0);
      const uint8_t* x = tokens + t / kTokens * set_bytes + column0 / kChunkColumns * kTileBytes;
      const int64_t left = token1 - t - (sets - 1) * kTokens;
      const int last = static_cast<int>(left < kTokens ? left : kTokens);
      const uint8_t* more = pairs % 16 != 0 ? rest : nullptr;
      if (sets == 2)
        bf16_tile<kGroups, 2>(w, stride, more, x, set_bytes, whole, out, last);
      else
        bf16_tile<kGroups, 1>(w, stride, more, x, set_bytes, whole, out, last);
      t += sets * kTokens;
    }
  }

  template <int kGroups>
  static void bf16_groups(const LinearTask& task, int64_t group, int64_t token0, int64_t token1) {
    const DType dtype = task.weight.dtype;
    const int64_t columns = task.weight.columns, stride = group_bytes(dtype, columns);
    const uint8_t* w = task.weight.data + group * stride;
    if (dtype == DType::bf16) return bf16_strip<kGroups>(task, w, stride, group, 0, columns, token0, token1);
    constexpr int64_t kColumns = Vector::kPanelColumns, kStride = kColumns / 2 * kWordBytes;
    alignas(64) uint8_t panel[kGroups * kStride];
    for (int64_t column = 0; column < columns; column += kColumns) {
      const int64_t end = column + kColumns < columns ? column + kColumns : columns;
      for (int g = 0; g < kGroups; ++g) Vector::fill_pairs(panel + g * kStride, dtype, w + g * stride, column, end);
      bf16_strip<kGroups>(task, panel, kStride, group, column, end, token0, token1);
    }
  }

  // ---- bf16 for fewer tokens than a tile is worth: the arithmetic of the tile, spelt with vectors ----

  // x: [pair][2][kTokens], rounded to bf16
  template <class Stored, int kGroups, int kFew>
  LATHE_NOINLINE static void chains(const uint8_t* w, int64_t stride, const float* x, int64_t pairs,
                                    const Output& out) {
    Floats sum[kGroups][kFew];
    LATHE_FOR(g, kGroups) {
      LATHE_FOR(t, kFew) { sum[g][t] = out.start(g, t); }
    }
    while (pairs > 0) {
      Floats even_sum[kGroups][kFew], odd_sum[kGroups][kFew];
      LATHE_FOR(g, kGroups) {
        LATHE_FOR(t, kFew) { even_sum[g][t] = odd_sum[g][t] = S::zero(); }
      }
      const int64_t now = pairs < kChunkColumns / 2 ? pairs : kChunkColumns / 2;
      for (int64_t p = 0; p < now; ++p, w += Stored::kPairBytes, x += 2 * kFew) {
        if constexpr (kFew == 1) Vector::template prefetch<Stored::kPairBytes>(w);
        LATHE_FOR(g, kGroups) {
          const Floats first = Stored::load(w + g * stride, 0), second = Stored::load(w + g * stride, 1);
          LATHE_FOR(t, kFew) {
            even_sum[g][t] = S::fma(first, S::set1(x[t]), even_sum[g][t]);
            odd_sum[g][t] = S::fma(second, S::set1(x[kFew + t]), odd_sum[g][t]);
          }
        }
      }
      pairs -= now;
      LATHE_FOR(g, kGroups) {
        LATHE_FOR(t, kFew) { sum[g][t] = sum[g][t] + (even_sum[g][t] + odd_sum[g][t]); }
      }
    }
    LATHE_FOR(g, kGroups) {
      LATHE_FOR(t, kFew) { out.finish(sum[g][t], g, t); }
    }
  }
  template <class Stored, int kGroups>
  static void few_strip(const LinearTask& task, const uint8_t* w, int64_t stride, int64_t group, int64_t column0,
                        int64_t column1, int64_t token0, int64_t token1) {
    const int64_t pairs = even(column1 - column0) / 2;
    const int tokens = static_cast<int>(token1 - token0);
    const float* x = task.x.words + token0 * even(task.weight.columns) + column0 * tokens;
    const Output out = Vector::output_of(task, group, token0, column0 == 0);
    if (tokens == 1) return chains<Stored, kGroups, 1>(w, stride, x, pairs, out);
    if (tokens == 2) return chains<Stored, kGroups, 2>(w, stride, x, pairs, out);
    chains<Stored, kGroups, 3>(w, stride, x, pairs, out);
  }
  template <int kGroups>
  static void few_groups(const LinearTask& task, int64_t group, int64_t token0, int64_t token1) {
    const DType dtype = task.weight.dtype;
    const int64_t columns = task.weight.columns, stride = group_bytes(dtype, columns);
    const uint8_t* w = task.weight.data + group * stride;
    if (dtype == DType::bf16)
      return few_strip<typename Vector::StoredBf16, kGroups>(task, w, stride, group, 0, columns, token0, token1);
    constexpr int64_t kColumns = Vector::kPanelColumns, kStride = kColumns * kGroupRows * 4;
    alignas(64) uint8_t panel[kGroups * kStride];
    for (int64_t column = 0; column < columns; column += kColumns) {
      const int64_t end = column + kColumns < columns ? column + kColumns : columns;
      for (int g = 0; g < kGroups; ++g)
        Vector::template fill<Vector::Panel::rounded>(panel + g * kStride, dtype, w + g * stride, column, end);
      few_strip<typename Vector::StoredF32, kGroups>(task, panel, kStride, group, column, end, token0, token1);
    }
  }

  // ---- what the tables offer ----

  // f(group) for two groups at a time, then one, their number a constant.
  template <class F>
  static LATHE_INLINE void over_groups(int64_t group, int64_t end, F f) {
    for (; group + 2 <= end; group += 2) f.template operator()<2>(group);
    for (; group < end; ++group) f.template operator()<1>(group);
  }

  static void multiply_few_bf16(const LinearTask& task, int64_t group0, int64_t group1, int64_t token0,
                                int64_t token1) {
    const unsigned int before = S::ignore_subnormals();
    over_groups(group0, group1, [&]<int kGroups>(int64_t group) { few_groups<kGroups>(task, group, token0, token1); });
    S::restore(before);
  }
  static void multiply_bf16(const LinearTask& task, int64_t group0, int64_t group1, int64_t token0, int64_t token1) {
    Amx::configure(kShapes<kChunkColumns>);
    over_groups(group0, group1, [&]<int kGroups>(int64_t group) { bf16_groups<kGroups>(task, group, token0, token1); });
    Amx::release();
  }
  static void multiply_int8(const LinearTask& task, int64_t group0, int64_t group1, int64_t token0, int64_t token1) {
    with_quantised(task.weight.dtype, [&](auto type) {
      constexpr DType kType = decltype(type)::value;
      Amx::configure(kShapes<QuantisedLayout<kType>::kRun>);
      int8_groups<kType>(task, group0, group1, token0, token1);
    });
    Amx::release();
  }

  // Tokens [token0, token1) as bf16 tiles: [16 tokens][chunk][token][32 columns], what is missing filled with zeros.
  static void pack_bf16(const PackedTokens& to_tokens, const float* x, int64_t ldx, int64_t columns, int64_t token0,
                        int64_t token1) {
    auto* tiles = reinterpret_cast<uint8_t*>(to_tokens.words);
    for (int64_t t = token0; t < (token1 + kTokens - 1) / kTokens * kTokens; ++t)
      for (int64_t c = 0; c < chunks(columns); ++c) {
        uint8_t* to = tiles + (t / kTokens * chunks(columns) + c) * kTileBytes + t % kTokens * 64;
        const int64_t column = c * kChunkColumns, left = t < token1 ? columns - column : 0;
        const float* from = x + (t < token1 ? t : token1 - 1) * ldx + column;
        S::store_bf16(reinterpret_cast<uint16_t*>(to), S::load_partial(from, clamp_lanes(left)));
        S::store_bf16(reinterpret_cast<uint16_t*>(to + 32), S::load_partial(from + 16, clamp_lanes(left - 16)));
      }
  }
  static int clamp_lanes(int64_t n) { return n < 0 ? 0 : n > kGroupRows ? kGroupRows : static_cast<int>(n); }

  // Quantised as for the vector tiles, as bf16: [16 tokens][block][token][32 columns], and their AmxTokenBlocks.
  template <int kHalves>
  static void pack_int8(const PackedTokens& to, const float* x, int64_t ldx, int64_t columns, int64_t token0,
                        int64_t token1) {
    auto* tiles = reinterpret_cast<uint8_t*>(to.int8_words);
    auto* blocks = reinterpret_cast<AmxTokenBlock*>(to.blocks);
    const int64_t count = columns / kBlockColumns;
    for (int64_t t = token0; t < (token1 + kTokens - 1) / kTokens * kTokens; t += kHalves)
      for (int64_t b = 0; b < count; ++b) {
        const int64_t tile = t / kTokens * count + b;
        alignas(64) float rest[kBlockColumns];
        const float* from = x + t / kHalves * ldx + b * kBlockColumns;
        LATHE_FOR(h, kHalves) {
          const int64_t i = t % kTokens + h;
          Floats q[2] = {S::zero(), S::zero()};
          TokenBlock block{};
          if (t < token1) {
            Vector::quantise_block(q, block, from);
            Vector::take_away(rest, from, q, block.scale);
            from = rest;
          }
          uint8_t* row = tiles + tile * kTileBytes + i * 64;
          LATHE_FOR(half, 2) { S::store_whole_numbers(row + half * 32, q[half]); }
          AmxTokenBlock& out = blocks[tile];
          out.scale[i] = block.scale;
          out.scaled_sum[i] = block.scaled_sum;
          LATHE_FOR(half, 2) { out.scaled_half_sum[half][i] = block.scaled_half_sum[half]; }
        }
      }
  }

  // Nothing but products: their peak rate (peak_loops.h).
  static int64_t peak(void* memory, int64_t steps) {
    Amx::configure(kShapes<kChunkColumns>);
    Amx::load<4>(memory, 64);
    Amx::load<6>(memory, 64);
    for (int64_t i = 0; i < steps; ++i) {
      Amx::add_products_bf16<0, 4, 6>();
      Amx::add_products_bf16<1, 4, 6>();
      Amx::add_products_bf16<2, 4, 6>();
      Amx::add_products_bf16<3, 4, 6>();
    }
    Amx::release();
    return steps * 4 * kTokens * kGroupRows * kChunkColumns * 2;
  }

  static constexpr LinearKernels kFewBf16{S::kFloatTokens, 4 * kBlockColumns, Vector::template pack_floats<true>,
                                          nullptr, multiply_few_bf16};
  static constexpr LinearKernels kBf16{kTokens, 2 * kBlockColumns, pack_bf16, nullptr, multiply_bf16};
  static constexpr LinearKernels kInt8{kTokens, 2 * kBlockColumns + sizeof(AmxTokenBlock) / kTokens, pack_int8<1>,
                                       pack_int8<2>, multiply_int8};
};

}  // namespace lathe::cpu
