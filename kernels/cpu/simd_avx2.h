// Sixteen lanes as two 256-bit registers: AVX2, FMA, F16C; and with AVX-VNNI. The members are described in simd.h.
#pragma once
#include <immintrin.h>

#include "kernels/cpu/simd.h"

namespace lathe::cpu {

struct Avx2 {
  struct Floats {
    __m256 a, b;
    friend LATHE_INLINE Floats operator+(Floats x, Floats y) {
      return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
    }
    friend LATHE_INLINE Floats operator-(Floats x, Floats y) {
      return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
    }
    friend LATHE_INLINE Floats operator*(Floats x, Floats y) {
      return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
    }
    friend LATHE_INLINE Floats operator/(Floats x, Floats y) {
      return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
    }
  };
  struct Ints {
    __m256i a, b;
  };

  // 16 registers: 12 accumulators, 2 of weights, 1 broadcast. Integer tiles: 8 sums; outputs lie in memory between
  // blocks.
  static constexpr bool kMultipliesBf16 = false, kMultipliesMatrices = false;
  static constexpr int kFloatGroups = 1, kFloatTokens = 6;
  static constexpr int kIntegerGroups = 1, kIntegerTokens = 4;
  static constexpr int kAttentionRows = 6, kAttentionPages = 1;

  static LATHE_INLINE Floats zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static LATHE_INLINE Floats set1(float v) { return {_mm256_set1_ps(v), _mm256_set1_ps(v)}; }
  static LATHE_INLINE Floats load(const void* p) {
    const float* f = static_cast<const float*>(p);
    return {_mm256_loadu_ps(f), _mm256_loadu_ps(f + 8)};
  }
  static LATHE_INLINE void store(void* p, Floats v) {
    float* f = static_cast<float*>(p);
    _mm256_storeu_ps(f, v.a);
    _mm256_storeu_ps(f + 8, v.b);
  }
  static LATHE_INLINE Floats load_partial(const float* p, int n) {
    return {_mm256_maskload_ps(p, first_lanes(n, 0)), _mm256_maskload_ps(p + 8, first_lanes(n, 8))};
  }
  static LATHE_INLINE void store_partial(float* p, Floats v, int n) {
    _mm256_maskstore_ps(p, first_lanes(n, 0), v.a);
    _mm256_maskstore_ps(p + 8, first_lanes(n, 8), v.b);
  }
  static LATHE_INLINE Floats load_f16(const void* p) {
    const __m128i* h = static_cast<const __m128i*>(p);
    return {_mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1))};
  }
  static LATHE_INLINE Floats load_bf16(const void* p) {
    const __m128i* h = static_cast<const __m128i*>(p);
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(h)), 16)),
            _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(h + 1)), 16))};
  }
  static LATHE_INLINE void store_f16(uint16_t* p, Floats v) {
    __m128i* h = reinterpret_cast<__m128i*>(p);
    _mm_storeu_si128(h, _mm256_cvtps_ph(v.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128(h + 1, _mm256_cvtps_ph(v.b, _MM_FROUND_TO_NEAREST_INT));
  }
  static LATHE_INLINE void store_bf16(uint16_t* p, Floats v) {
    const __m256i a = _mm256_srli_epi32(_mm256_castps_si256(round_half(v.a)), 16);
    const __m256i b = _mm256_srli_epi32(_mm256_castps_si256(round_half(v.b)), 16);
    const __m256i mixed = _mm256_packus_epi32(a, b);  // quarters: a0 b0 a1 b1
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(mixed, 0xd8));
  }

  static LATHE_INLINE Floats fma(Floats x, Floats y, Floats z) {
    return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
  }
  static LATHE_INLINE Floats fused(Floats x, Floats y, Floats z) { return fma(x, y, z); }
  static LATHE_INLINE Floats maximum(Floats x, Floats y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
  static LATHE_INLINE Floats minimum(Floats x, Floats y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
  static LATHE_INLINE Floats sqrt(Floats v) { return {_mm256_sqrt_ps(v.a), _mm256_sqrt_ps(v.b)}; }
  static LATHE_INLINE Floats abs(Floats v) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, v.a), _mm256_andnot_ps(sign, v.b)};
  }
  static LATHE_INLINE Floats if_less(Floats x, Floats y, Floats then, Floats otherwise) {
    return {_mm256_blendv_ps(otherwise.a, then.a, _mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ)),
            _mm256_blendv_ps(otherwise.b, then.b, _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ))};
  }
  static LATHE_INLINE Floats round(Floats v) {
    constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(v.a, kNearest), _mm256_round_ps(v.b, kNearest)};
  }
  static LATHE_INLINE Floats scale_by_power(Floats v, Floats n) { return {scale_half(v.a, n.a), scale_half(v.b, n.b)}; }
  static LATHE_INLINE Floats keep_lanes(Floats v, int first, int last, float otherwise) {
    const __m256 other = _mm256_set1_ps(otherwise);
    return {_mm256_blendv_ps(other, v.a, lanes_between(first, last, 0)),
            _mm256_blendv_ps(other, v.b, lanes_between(first, last, 8))};
  }
  template <int kLanes>
  static LATHE_INLINE void transpose(Floats (&r)[16]) {
    __m256 quarter[4][8];  // of the matrix: upper left, upper right, lower left, lower right
    LATHE_FOR(i, 8) {
      quarter[0][i] = r[i].a;
      quarter[1][i] = r[i].b;
      quarter[2][i] = r[8 + i].a;
      quarter[3][i] = r[8 + i].b;
    }
    LATHE_FOR(q, kLanes > 8 ? 4 : 2) { transpose_quarter(quarter[q]); }
    LATHE_FOR(i, 8) {
      r[i] = {quarter[0][i], quarter[2][i]};
      r[8 + i] = {quarter[1][i], quarter[3][i]};
    }
  }
  static LATHE_INLINE float sum(Floats v) {
    const __m256 eight = _mm256_add_ps(v.a, v.b);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
  }
  static LATHE_INLINE float largest(Floats v) {
    const __m256 eight = _mm256_max_ps(v.a, v.b);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
  }
  static LATHE_INLINE uint32_t largest_magnitude(Floats v, Floats w) {
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    const auto bits_of = [&](__m256 f) { return _mm256_and_si256(_mm256_castps_si256(f), magnitude); };
    const __m256i eight =
        _mm256_max_epu32(_mm256_max_epu32(bits_of(v.a), bits_of(v.b)), _mm256_max_epu32(bits_of(w.a), bits_of(w.b)));
    __m128i four = _mm_max_epu32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    four = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0x4e));
    four = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0xb1));
    return static_cast<uint32_t>(_mm_cvtsi128_si32(four));
  }
  static LATHE_INLINE void store_bytes(int8_t* p, Floats v) {
    const __m256i mixed = _mm256_packs_epi32(_mm256_cvtps_epi32(v.a), _mm256_cvtps_epi32(v.b));  // a0 b0 a1 b1
    const __m256i words = _mm256_permute4x64_epi64(mixed, 0xd8);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
  }

  static LATHE_INLINE Ints load_ints(const void* p) {
    const __m256i* v = static_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1)};
  }
  static LATHE_INLINE void store_ints(void* p, Ints v) {
    __m256i* to = static_cast<__m256i*>(p);
    _mm256_storeu_si256(to, v.a);
    _mm256_storeu_si256(to + 1, v.b);
  }
  static LATHE_INLINE Ints load_signed_bytes(const void* p) {
    const __m128i v = _mm_loadu_si128(static_cast<const __m128i*>(p));
    return {_mm256_cvtepi8_epi32(v), _mm256_cvtepi8_epi32(_mm_srli_si128(v, 8))};
  }
  static LATHE_INLINE Floats to_floats(Ints v) { return {_mm256_cvtepi32_ps(v.a), _mm256_cvtepi32_ps(v.b)}; }
  static LATHE_INLINE Ints bits(Ints v, int shift, uint32_t mask) {
    const __m256i keep = _mm256_set1_epi32(static_cast<int>(mask));
    return {_mm256_and_si256(_mm256_srli_epi32(v.a, shift), keep),
            _mm256_and_si256(_mm256_srli_epi32(v.b, shift), keep)};
  }
  static LATHE_INLINE Ints raised_bits(Ints v, int shift, uint32_t mask) {
    const __m256i keep = _mm256_set1_epi32(static_cast<int>(mask));
    return {_mm256_and_si256(_mm256_slli_epi32(v.a, shift), keep),
            _mm256_and_si256(_mm256_slli_epi32(v.b, shift), keep)};
  }
  static LATHE_INLINE Ints either(Ints v, Ints w) { return {_mm256_or_si256(v.a, w.a), _mm256_or_si256(v.b, w.b)}; }
  static LATHE_INLINE Ints look_up(Ints v, const uint8_t* table) {
    const __m256i t = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(table)));
    return {_mm256_shuffle_epi8(t, v.a), _mm256_shuffle_epi8(t, v.b)};
  }
  static LATHE_INLINE void split_bf16(Ints v, Floats& first, Floats& second) {
    const __m256i high = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    first = {_mm256_castsi256_ps(_mm256_slli_epi32(v.a, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(v.b, 16))};
    second = {_mm256_castsi256_ps(_mm256_and_si256(v.a, high)), _mm256_castsi256_ps(_mm256_and_si256(v.b, high))};
  }
  static LATHE_INLINE Floats round_to_bf16(Floats v) { return {round_half(v.a), round_half(v.b)}; }

  // vpmaddubsw adds two products in 16 bits and saturates. Weights of up to six bits are summed there for kShortWords
  // words, which stay below 2^15 (a block of up to four bits whole); then carry() adds the halves of a lane. Eight
  // bits: |weight| times the activation with the weight's sign, two of which stay below 2^15.
  template <int kBits>
  struct IntegerSum {
    static constexpr int kShortWords = kBits == 8 ? 1 : 32767 / (2 * 127 * ((1 << kBits) - 1));
    Ints value, part;
    static LATHE_INLINE IntegerSum begin(int32_t) { return {zeros(), zeros()}; }
    LATHE_INLINE void add(Ints weights, int32_t activations) {
      const __m256i x = _mm256_set1_epi32(activations);
      part = {_mm256_add_epi16(part.a, products(weights.a, x)), _mm256_add_epi16(part.b, products(weights.b, x))};
      in_order(part);
    }
    LATHE_INLINE void carry() {
      const __m256i ones = _mm256_set1_epi16(1);
      value = {_mm256_add_epi32(value.a, _mm256_madd_epi16(part.a, ones)),
               _mm256_add_epi32(value.b, _mm256_madd_epi16(part.b, ones))};
      in_order(value);
      part = zeros();
    }
    LATHE_INLINE Floats end(int32_t start) const {
      const __m256i first = kBits == 8 ? _mm256_setzero_si256() : _mm256_set1_epi32(start);
      return {_mm256_cvtepi32_ps(_mm256_add_epi32(value.a, first)),
              _mm256_cvtepi32_ps(_mm256_add_epi32(value.b, first))};
    }

   private:
    static LATHE_INLINE Ints zeros() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
    static LATHE_INLINE __m256i products(__m256i w, __m256i x) {
      if constexpr (kBits < 8) return _mm256_maddubs_epi16(w, x);
      w = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
      return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    }
    // GCC would put all additions of a block after its products, for which there are no registers.
    static LATHE_INLINE void in_order(Ints& v) { asm("" : "+x"(v.a), "+x"(v.b)); }
  };

 private:
  static LATHE_INLINE void transpose_quarter(__m256 (&r)[8]) {
    __m256 t[8];
    LATHE_FOR(i, 4) {
      t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
      t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    LATHE_FOR(i, 4) {
      const __m256 first = t[i / 2 * 4 + i % 2], second = t[i / 2 * 4 + i % 2 + 2];
      r[i / 2 * 4 + i % 2 * 2] = _mm256_shuffle_ps(first, second, 0x44);
      r[i / 2 * 4 + i % 2 * 2 + 1] = _mm256_shuffle_ps(first, second, 0xee);
    }
    LATHE_FOR(j, 4) {
      t[j] = _mm256_permute2f128_ps(r[j], r[4 + j], 0x20);
      t[4 + j] = _mm256_permute2f128_ps(r[j], r[4 + j], 0x31);
    }
    LATHE_FOR(i, 8) { r[i] = t[i]; }
  }
  static LATHE_INLINE __m256i first_lanes(int n, int from) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n - from), lane);
  }
  static LATHE_INLINE __m256 lanes_between(int first, int last, int from) {
    return _mm256_castsi256_ps(_mm256_andnot_si256(first_lanes(first, from), first_lanes(last, from)));
  }
  static LATHE_INLINE __m256 scale_half(__m256 v, __m256 n) {
    const __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1), bias = _mm256_set1_epi32(127);
    const __m256i rest = _mm256_sub_epi32(whole, half);
    v = _mm256_mul_ps(v, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23)));
    return _mm256_mul_ps(v, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23)));
  }
  static LATHE_INLINE __m256 round_half(__m256 v) {  // as f32_to_bf16, NaN made quiet
    const __m256i bits = _mm256_castps_si256(v), one = _mm256_set1_epi32(1);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), one);
    const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256 rounded =
        _mm256_blendv_ps(_mm256_castsi256_ps(up), _mm256_castsi256_ps(quiet), _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    return _mm256_and_ps(rounded, _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(0xffff0000u))));
  }
};

#if defined(__AVXVNNI__)
// vpdpbusd of 256 bits adds all four products of a lane.
struct AvxVnni : Avx2 {
  template <int kBits>
  struct IntegerSum {
    Ints value;
    static LATHE_INLINE IntegerSum begin(int32_t start) {
      return {{_mm256_set1_epi32(start), _mm256_set1_epi32(start)}};
    }
    LATHE_INLINE void add(Ints weights, int32_t activations) {
      const __m256i x = _mm256_set1_epi32(activations);
      value = {_mm256_dpbusd_avx_epi32(value.a, weights.a, x), _mm256_dpbusd_avx_epi32(value.b, weights.b, x)};
    }
    LATHE_INLINE Floats end(int32_t) const { return to_floats(value); }
  };
};
#endif

}  // namespace lathe::cpu
