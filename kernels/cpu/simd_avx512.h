// Sixteen lanes as one 512-bit register: AVX-512 F BW DQ VL, and with VNNI. The members are described in
// simd.h.
#pragma once
#include <immintrin.h>

#include "kernels/cpu/packed_layout.h"
#include "kernels/cpu/simd.h"

namespace lathe::cpu {

struct Avx512 {
  using Floats = __m512;
  using Ints = __m512i;

  static constexpr bool kMultipliesBf16 = false, kMultipliesMatrices = false;
  // 32 registers: 24 accumulators, 2 of weights, 1 broadcast.
  static constexpr int kFloatGroups = 2, kFloatTokens = 12;
  static constexpr int kIntegerGroups = 2, kIntegerTokens = 6;
  static constexpr int kAttentionRows = 6, kAttentionPages = 4;

  static LATHE_INLINE Floats zero() { return _mm512_setzero_ps(); }
  static LATHE_INLINE Floats set1(float v) { return _mm512_set1_ps(v); }
  static LATHE_INLINE Floats load(const void* p) { return _mm512_loadu_ps(p); }
  static LATHE_INLINE void store(void* p, Floats v) { _mm512_storeu_ps(p, v); }
  static LATHE_INLINE Floats load_partial(const float* p, int n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
  static LATHE_INLINE void store_partial(float* p, Floats v, int n) { _mm512_mask_storeu_ps(p, first_lanes(n), v); }
  static LATHE_INLINE Floats load_f16(const void* p) { return _mm512_cvtph_ps(load_half(p)); }
  static LATHE_INLINE Floats load_bf16(const void* p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_half(p)), 16));
  }
  static LATHE_INLINE void store_f16(uint16_t* p, Floats v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }
  static LATHE_INLINE void store_bf16(uint16_t* p, Floats v) {
    const __m512i bits = _mm512_srli_epi32(_mm512_castps_si512(round_to_bf16(v)), 16);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(bits));
  }

  static LATHE_INLINE Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static LATHE_INLINE Floats fused(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static LATHE_INLINE Floats maximum(Floats a, Floats b) { return _mm512_max_ps(a, b); }
  static LATHE_INLINE Floats minimum(Floats a, Floats b) { return _mm512_min_ps(a, b); }
  static LATHE_INLINE Floats sqrt(Floats v) { return _mm512_sqrt_ps(v); }
  static LATHE_INLINE Floats abs(Floats v) { return _mm512_abs_ps(v); }
  static LATHE_INLINE Floats if_less(Floats a, Floats b, Floats then, Floats otherwise) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), otherwise, then);
  }
  static LATHE_INLINE Floats round(Floats v) {
    return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static LATHE_INLINE Floats scale_by_power(Floats v, Floats n) { return _mm512_scalef_ps(v, n); }
  static LATHE_INLINE Floats keep_lanes(Floats v, int first, int last, float otherwise) {
    const __mmask16 keep = static_cast<__mmask16>(first_lanes(last) & ~first_lanes(first));
    return _mm512_mask_blend_ps(keep, _mm512_set1_ps(otherwise), v);
  }
  template <int kLanes>
  static LATHE_INLINE void transpose(Floats (&r)[16]) {
    Floats t[16];
    LATHE_FOR(i, 8) {
      t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
      t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    LATHE_FOR(i, 8) {  // quarters of four rows: in quarter q of r[4 i + j] column 4 q + j of rows 4 i to 4 i + 3
      const __m512d first = _mm512_castps_pd(t[i / 2 * 4 + i % 2]), second = _mm512_castps_pd(t[i / 2 * 4 + i % 2 + 2]);
      r[i / 2 * 4 + i % 2 * 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(first, second));
      r[i / 2 * 4 + i % 2 * 2 + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(first, second));
    }
    LATHE_FOR(j, 4) {
      t[j] = _mm512_shuffle_f32x4(r[j], r[4 + j], 0x88);
      t[4 + j] = _mm512_shuffle_f32x4(r[j], r[4 + j], 0xdd);
      t[8 + j] = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0x88);
      t[12 + j] = _mm512_shuffle_f32x4(r[8 + j], r[12 + j], 0xdd);
    }
    LATHE_FOR(j, 8) {
      r[j] = _mm512_shuffle_f32x4(t[j], t[8 + j], 0x88);
      r[8 + j] = _mm512_shuffle_f32x4(t[j], t[8 + j], 0xdd);
    }
  }
  static LATHE_INLINE float sum(Floats v) {  // spelt out: the order of _mm512_reduce_add_ps is the compiler's choice
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
  }
  static LATHE_INLINE float largest(Floats v) { return _mm512_reduce_max_ps(v); }
  static LATHE_INLINE uint32_t largest_magnitude(Floats v, Floats w) {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    return _mm512_reduce_max_epu32(_mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(v), magnitude),
                                                    _mm512_and_si512(_mm512_castps_si512(w), magnitude)));
  }
  static LATHE_INLINE void store_bytes(int8_t* p, Floats v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
  }

  static LATHE_INLINE Ints load_ints(const void* p) { return _mm512_loadu_si512(p); }
  static LATHE_INLINE void store_ints(void* p, Ints v) { _mm512_storeu_si512(p, v); }
  static LATHE_INLINE Ints load_signed_bytes(const void* p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  static LATHE_INLINE Floats to_floats(Ints v) { return _mm512_cvtepi32_ps(v); }
  static LATHE_INLINE Ints bits(Ints v, int shift, uint32_t mask) {
    return _mm512_and_si512(as_ints(as_words(v) >> shift), _mm512_set1_epi32(static_cast<int>(mask)));
  }
  static LATHE_INLINE Ints raised_bits(Ints v, int shift, uint32_t mask) {
    return _mm512_and_si512(as_ints(as_words(v) << shift), _mm512_set1_epi32(static_cast<int>(mask)));
  }
  static LATHE_INLINE Ints either(Ints v, Ints w) { return _mm512_or_si512(v, w); }
  static LATHE_INLINE Ints look_up(Ints v, const uint8_t* table) {
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(table))), v);
  }
  static LATHE_INLINE void split_bf16(Ints v, Floats& first, Floats& second) {
    first = _mm512_castsi512_ps(_mm512_slli_epi32(v, 16));
    second = _mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  }
  static LATHE_INLINE Floats round_to_bf16(Floats v) {  // as f32_to_bf16, NaN made quiet
    const __m512i bits = _mm512_castps_si512(v), one = _mm512_set1_epi32(1);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), one);
    const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    const __m512i rounded = _mm512_mask_or_epi32(up, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_castsi512_ps(_mm512_and_si512(rounded, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  }

  // As in simd_avx2.h; AVX-512 has no vpsignb, so the signs go through a mask.
  template <int kBits>
  struct IntegerSum {
    static constexpr int kShortWords = kBits == 8 ? 1 : 32767 / (2 * 127 * ((1 << kBits) - 1));
    Ints value, part;
    static LATHE_INLINE IntegerSum begin(int32_t) { return {_mm512_setzero_si512(), _mm512_setzero_si512()}; }
    LATHE_INLINE void add(Ints w, int32_t activations) {
      part = _mm512_add_epi16(part, products(w, _mm512_set1_epi32(activations)));
      asm("" : "+v"(part));
    }
    LATHE_INLINE void carry() {
      value = _mm512_add_epi32(value, _mm512_madd_epi16(part, _mm512_set1_epi16(1)));
      asm("" : "+v"(value));
      part = _mm512_setzero_si512();
    }
    LATHE_INLINE Floats end(int32_t start) const {
      return _mm512_cvtepi32_ps(kBits == 8 ? value : _mm512_add_epi32(value, _mm512_set1_epi32(start)));
    }

   private:
    static LATHE_INLINE Ints products(Ints w, Ints x) {
      if constexpr (kBits < 8) return _mm512_maddubs_epi16(w, x);
      w = _mm512_xor_si512(w, _mm512_set1_epi8(-128));
      const Ints signed_x = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(w), _mm512_setzero_si512(), x);
      return _mm512_maddubs_epi16(_mm512_abs_epi8(w), signed_x);
    }
  };

 private:
  typedef uint32_t Words __attribute__((vector_size(64)));
  static LATHE_INLINE Words as_words(Ints v) { return reinterpret_cast<Words>(v); }
  static LATHE_INLINE Ints as_ints(Words v) { return reinterpret_cast<Ints>(v); }
  static LATHE_INLINE __mmask16 first_lanes(int n) {  // none below 0, all above 16
    return static_cast<__mmask16>(n <= 0 ? 0u : n >= 16 ? 0xffffu : (1u << n) - 1u);
  }
  static LATHE_INLINE __m256i load_half(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
};

#if defined(__AVX512VNNI__)
// vpdpbusd adds all four products of a lane, vdpbf16ps both of a pair of bf16: twice the rate of fma on Zen 4, two
// thirds of it on Sapphire Rapids (97 against 150 Gop/s on one core), which has AMX for them. Subnormal numbers count
// as zero.
struct Avx512Vnni : Avx512 {
  static constexpr bool kMultipliesBf16 = true;
  static LATHE_INLINE Floats add_pair_products(Floats sum, Ints pairs, int32_t pair) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(pairs),
                            reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair)));
  }
  // Lanes of pairs, of values that are bf16 already.
  static LATHE_INLINE Ints pair_bf16(Floats first, Floats second) {
    return _mm512_or_si512(_mm512_srli_epi32(_mm512_castps_si512(first), 16), _mm512_castps_si512(second));
  }
  template <int kBits>
  struct IntegerSum {
    Ints value;
    static LATHE_INLINE IntegerSum begin(int32_t start) { return {_mm512_set1_epi32(start)}; }
    LATHE_INLINE void add(Ints weights, int32_t activations) {
      value = _mm512_dpbusd_epi32(value, weights, _mm512_set1_epi32(activations));
    }
    LATHE_INLINE Floats end(int32_t) const { return _mm512_cvtepi32_ps(value); }
  };
};
#endif

#if defined(__AMX_TILE__) || defined(__AMXTILE__)  // as GCC and as Clang spell it
// What the AMX tiles (packed_linear_amx.h) need of the vector registers beside them.
struct Avx512Amx : Avx512Vnni {
  // Stored quants, a byte each, as the whole numbers that they mean, in pairs of bf16: of the four bytes of a lane 0
  // and 2 first, then 1 and 3.
  template <DType kType>
  struct WholeNumbers {
    static constexpr int kBits = QuantisedLayout<kType>::kStoredBits;
    Ints table[2];
    WholeNumbers() {
      alignas(64) uint16_t numbers[64] = {};
      constexpr int kCount = kBits < 6 ? 1 << kBits : 64;
      for (int q = 0; q < kCount; ++q)
        numbers[q] = static_cast<uint16_t>(__builtin_bit_cast(uint32_t, static_cast<float>(number_of<kType>(q))) >> 16);
      table[0] = load_ints(numbers);
      table[1] = load_ints(numbers + 32);
    }
    LATHE_INLINE void put(uint8_t* pairs, Ints word) const {
      const Ints even = _mm512_and_si512(word, _mm512_set1_epi16(255)), odd = _mm512_srli_epi16(word, 8);
      store_ints(pairs, look_up(even));
      store_ints(pairs + 64, look_up(odd));
    }

   private:
    LATHE_INLINE Ints look_up(Ints q) const {
      if constexpr (kBits <= 5) return _mm512_permutexvar_epi16(q, table[0]);
      if constexpr (kBits == 6) return _mm512_permutex2var_epi16(table[0], q, table[1]);
      const Ints offset = _mm512_set1_epi32(QuantisedLayout<kType>::kOffset);
      const Floats first = to_floats(_mm512_sub_epi32(bits(q, 0, 0xffff), offset));
      const Floats second = to_floats(_mm512_sub_epi32(bits(q, 16, 0xffff), offset));
      return pair_bf16(first, second);
    }
  };
  // Sixteen whole numbers as bf16, of every four 0 and 2 first, then 1 and 3.
  static LATHE_INLINE void store_whole_numbers(uint8_t* p, Floats v) {
    const Floats ordered = _mm512_permute_ps(v, _MM_SHUFFLE(3, 1, 2, 0));
    const __m512i high = _mm512_srli_epi32(_mm512_castps_si512(ordered), 16);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(high));
  }
  // The vector unit treats subnormal numbers as AMX always does: as zero, in and out. Returns what to restore.
  static LATHE_INLINE unsigned int ignore_subnormals() {
    const unsigned int before = _mm_getcsr();
    _mm_setcsr(before | _MM_FLUSH_ZERO_ON | 0x40u);  // bit 6: subnormal operands are zeros
    return before;
  }
  static LATHE_INLINE void restore(unsigned int before) { _mm_setcsr(before); }

  // As store_bf16, subnormal numbers as zeros.
  static LATHE_INLINE void store_rounded_bf16(void* p, Floats v) {
    _mm256_storeu_si256(static_cast<__m256i*>(p), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v)));
  }
  // Two rows of 16, one after the other, as 16 pairs; the same of the lower and of the upper halves of two rows of 32.
  static LATHE_INLINE Ints pair_rows(Ints rows) { return _mm512_permutexvar_epi16(pair_order(16), rows); }
  static LATHE_INLINE Ints pair_lower(Ints first, Ints second) {
    return _mm512_permutex2var_epi16(first, pair_order(32), second);
  }
  static LATHE_INLINE Ints pair_upper(Ints first, Ints second) {
    const Ints order = _mm512_add_epi16(pair_order(32), _mm512_set1_epi16(16));
    return _mm512_permutex2var_epi16(first, order, second);
  }
  // Whether all of some vectors of 32 bf16 are finite.
  struct Bf16Check {
    Ints largest = _mm512_setzero_si512();
    LATHE_INLINE void add(Ints v) {
      largest = _mm512_max_epu16(largest, _mm512_and_si512(v, _mm512_set1_epi16(0x7fff)));
    }
    LATHE_INLINE bool all_finite() const { return _mm512_cmpge_epu16_mask(largest, _mm512_set1_epi16(0x7f80)) == 0; }
  };

 private:
  // 0, distance, 1, distance + 1, ...
  static LATHE_INLINE Ints pair_order(int distance) {
    alignas(64) uint16_t order[32];
    LATHE_FOR(i, 32) { order[i] = static_cast<uint16_t>(i / 2 + i % 2 * distance); }
    return load_ints(order);
  }
};
#endif

}  // namespace lathe::cpu
