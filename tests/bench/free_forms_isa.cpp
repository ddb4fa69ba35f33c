// The freer forms for one instruction set: compiled once for each, with LATHE_SIMD and LATHE_ISA defined.
#include "kernels/cpu/packed_linear_tiles.h"
#include "kernels/cpu/vector_math.h"
#if defined(__AVX512F__)
#include "kernels/cpu/simd_avx512.h"
#else
#include "kernels/cpu/simd_avx2.h"
#endif
#include "tests/bench/free_forms.h"

#define LATHE_JOIN(a, b) a##b
#define LATHE_NAME(a, b) LATHE_JOIN(a, b)

namespace lathe::bench {
namespace {

using namespace cpu;
using S = LATHE_SIMD;
using Tiles = LinearTiles<S>;
using Floats = S::Floats;
using Ints = S::Ints;
constexpr int kChains = 4;

Floats total(const Floats (&sum)[kChains]) { return (sum[0] + sum[1]) + (sum[2] + sum[3]); }

void multiply_f16(float* y, const PackedMatrix& w, const float* x, int64_t group0, int64_t group1) {
  const int64_t pairs = w.columns / 2, stride = pairs * 64;
  for (int64_t group = group0; group < group1; ++group) {
    const uint8_t* from = w.data + group * stride;
    Floats sum[kChains] = {S::zero(), S::zero(), S::zero(), S::zero()};
    for (int64_t p = 0; p + 1 < pairs; p += 2, from += 128, x += 4) {
      Tiles::prefetch<128>(from);
      LATHE_FOR(c, kChains) { sum[c] = S::fma(S::load_f16(from + 32 * c), S::set1(x[c]), sum[c]); }
    }
    if (pairs % 2 != 0) {
      LATHE_FOR(c, 2) { sum[c] = S::fma(S::load_f16(from + 32 * c), S::set1(x[c]), sum[c]); }
    }
    x -= pairs / 2 * 4;
    S::store(y + group * 16, total(sum));
  }
}

void multiply_q4_1(float* y, const PackedMatrix& w, const int32_t* words, const void* blocks, int64_t group0,
                   int64_t group1) {
  using W = Tiles::Quantised<DType::q4_1>;
  const int64_t count = w.columns / kBlockColumns;
  const auto* xb = static_cast<const TokenBlock*>(blocks);
  for (int64_t group = group0; group < group1; ++group) {
    const uint8_t* block = w.data + group * count * W::kBytes;
    Floats sum[kChains] = {S::zero(), S::zero(), S::zero(), S::zero()};
    for (int64_t first = 0; first < count; first += kChains) {
      LATHE_FOR(c, kChains) {
        if (first + c < count) {
          const int64_t b = first + c;
          Tiles::prefetch<W::kBytes>(block);
          auto integers = S::IntegerSum<W::kBits>::begin(0);
          LATHE_FOR(i, 8) {
            integers.add(W::word(block, i), words[b * 8 + i]);
            Tiles::carry(integers, i, 8);
          }
          const Floats scale = S::load_f16(block + W::kScaleAt), minimum = S::load_f16(block + W::kMinimumAt);
          sum[c] = S::fused(integers.end(0) * scale, S::set1(xb[b].scale), sum[c]);
          sum[c] = S::fused(minimum, S::set1(xb[b].scaled_sum), sum[c]);
          block += W::kBytes;
        }
      }
    }
    S::store(y + group * 16, total(sum));
  }
}

constexpr int kRows = 3;

// The scores of kPages pages at once, which go to scores + 16 (page kRows + row); the next pages and the values are
// fetched meanwhile, as the kernel of inference does.
template <int kPages>
void score(const uint16_t* const* keys, const uint16_t* const* values, int64_t left, const float* q, int64_t head_dim,
           float scale, float* scores, Floats (&most)[kRows]) {
  Floats sum[kPages][kRows];
  LATHE_FOR(p, kPages) {
    LATHE_FOR(m, kRows) { sum[p][m] = S::zero(); }
  }
  const int64_t next = left > 2 * kPages ? kPages : 0;
  for (int64_t d = 0; d < head_dim; ++d) {
    Floats k[kPages];
    LATHE_FOR(p, kPages) {
      k[p] = S::load_f16(keys[p] + d * 16);
      __builtin_prefetch(keys[p + next] + d * 16);
      __builtin_prefetch(values[p] + d * 16);
    }
    LATHE_FOR(m, kRows) {
      const Floats qd = S::set1(q[m * head_dim + d]);
      LATHE_FOR(p, kPages) { sum[p][m] = S::fma(k[p], qd, sum[p][m]); }
    }
  }
  LATHE_FOR(p, kPages) {
    LATHE_FOR(m, kRows) {
      const Floats scaled = sum[p][m] * S::set1(scale);
      most[m] = S::maximum(most[m], scaled);
      S::store(scores + (p * kRows + m) * 16, scaled);
    }
  }
}

void attend_f16(float* out, const float* q, const uint16_t* const* keys, const uint16_t* const* values, int64_t pages,
                int64_t head_dim, float scale, float* scores) {
  Floats most[kRows], all[kRows];
  LATHE_FOR(m, kRows) {
    most[m] = S::set1(-3e38f);
    all[m] = S::zero();
  }
  constexpr int kBeside = S::kAttentionRows * S::kAttentionPages / kRows, kPages = kBeside < 4 ? kBeside : 4;
  int64_t page = 0;
  for (; page + kPages <= pages; page += kPages)
    score<kPages>(keys + page, values + page, pages - page, q, head_dim, scale, scores + page * kRows * 16, most);
  for (; page < pages; ++page)
    score<1>(keys + page, values + page, pages - page, q, head_dim, scale, scores + page * kRows * 16, most);
  float maximum[kRows];
  LATHE_FOR(m, kRows) { maximum[m] = S::largest(most[m]); }
  for (int64_t p = 0; p < pages; ++p) {
    LATHE_FOR(m, kRows) {
      float* at = scores + (p * kRows + m) * 16;
      const Floats e = VectorMath<S>::exp(S::load(at) - S::set1(maximum[m]));
      all[m] = all[m] + e;
      S::store(at, e);
    }
  }
  for (int64_t d = 0; d < head_dim; d += 64) {
    Floats y[kRows][4];
    LATHE_FOR(m, kRows) {
      LATHE_FOR(c, 4) { y[m][c] = S::zero(); }
    }
    for (int64_t p = 0; p < pages; ++p)
      for (int64_t key = 0; key < 16; ++key) {
        Floats v[4];
        LATHE_FOR(c, 4) { v[c] = S::load_f16(values[p] + key * head_dim + d + 16 * c); }
        LATHE_FOR(m, kRows) {
          const Floats weight = S::set1(scores[(p * kRows + m) * 16 + key]);
          LATHE_FOR(c, 4) { y[m][c] = S::fma(v[c], weight, y[m][c]); }
        }
      }
    LATHE_FOR(m, kRows) {
      LATHE_FOR(c, 4) { S::store(out + m * (head_dim + 16) + d + 16 * c, y[m][c]); }
    }
  }
  LATHE_FOR(m, kRows) {
    out[m * (head_dim + 16) + head_dim] = maximum[m];
    out[m * (head_dim + 16) + head_dim + 1] = S::sum(all[m]);
  }
}

constexpr FreeForms kForms{multiply_f16, multiply_q4_1, attend_f16};

}  // namespace

const FreeForms& LATHE_NAME(free_forms_, LATHE_ISA)() { return kForms; }

}  // namespace lathe::bench
