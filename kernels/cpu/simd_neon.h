// Sixteen lanes as four 128-bit registers: NEON as every AArch64 has it, and with the instructions that multiply bytes.
// The members are described in simd.h.
#pragma once
#include <arm_neon.h>

#include "kernels/cpu/simd.h"

namespace lathe::cpu {

struct Neon {
  // No lambdas here: one that is not inlined would be a weak symbol, compiled for the instruction set of any unit.
  struct Floats {
    float32x4_t v[4];
    friend LATHE_INLINE Floats operator+(Floats x, Floats y) {
      LATHE_FOR(q, 4) { x.v[q] = vaddq_f32(x.v[q], y.v[q]); }
      return x;
    }
    friend LATHE_INLINE Floats operator-(Floats x, Floats y) {
      LATHE_FOR(q, 4) { x.v[q] = vsubq_f32(x.v[q], y.v[q]); }
      return x;
    }
    friend LATHE_INLINE Floats operator*(Floats x, Floats y) {
      LATHE_FOR(q, 4) { x.v[q] = vmulq_f32(x.v[q], y.v[q]); }
      return x;
    }
    friend LATHE_INLINE Floats operator/(Floats x, Floats y) {
      LATHE_FOR(q, 4) { x.v[q] = vdivq_f32(x.v[q], y.v[q]); }
      return x;
    }
  };
  struct Ints {
    uint32x4_t v[4];
  };

  // 32 registers: 24 accumulators, 4 of weights, 1 broadcast; for integers 8 of sums and 8 of outputs, and of the
  // products of bytes two halves and a broadcast.
  static constexpr bool kMultipliesBf16 = false, kMultipliesMatrices = false;
  static constexpr int kFloatGroups = 1, kFloatTokens = 6;
  static constexpr int kIntegerGroups = 1, kIntegerTokens = 2;
  static constexpr int kAttentionRows = 3, kAttentionPages = 2;

  static LATHE_INLINE Floats zero() { return set1(0.0f); }
  static LATHE_INLINE Floats set1(float f) {
    const float32x4_t q = vdupq_n_f32(f);
    return {{q, q, q, q}};
  }
  static LATHE_INLINE Floats load(const void* p) {
    const float* f = static_cast<const float*>(p);
    return {{vld1q_f32(f), vld1q_f32(f + 4), vld1q_f32(f + 8), vld1q_f32(f + 12)}};
  }
  static LATHE_INLINE void store(void* p, Floats x) {
    LATHE_FOR(q, 4) { vst1q_f32(static_cast<float*>(p) + 4 * q, x.v[q]); }
  }
  static LATHE_INLINE Floats load_partial(const float* p, int n) {
    if (n == 16) return load(p);
    float lanes[16] = {};
    for (int i = 0; i < n; ++i) lanes[i] = p[i];
    return load(lanes);
  }
  static LATHE_INLINE void store_partial(float* p, Floats x, int n) {
    if (n == 16) return store(p, x);
    float lanes[16];
    store(lanes, x);
    for (int i = 0; i < n; ++i) p[i] = lanes[i];
  }
  static LATHE_INLINE Floats load_f16(const void* p) {
    Floats x;
    LATHE_FOR(q, 4) { x.v[q] = vcvt_f32_f16(vreinterpret_f16_u16(load_half(p, q))); }
    return x;
  }
  static LATHE_INLINE Floats load_bf16(const void* p) {
    Floats x;
    LATHE_FOR(q, 4) { x.v[q] = vreinterpretq_f32_u32(vshll_n_u16(load_half(p, q), 16)); }
    return x;
  }
  static LATHE_INLINE void store_f16(uint16_t* p, Floats x) {
    LATHE_FOR(q, 4) { vst1_u16(p + 4 * q, vreinterpret_u16_f16(vcvt_f16_f32(x.v[q]))); }
  }
  static LATHE_INLINE void store_bf16(uint16_t* p, Floats x) {
    x = round_to_bf16(x);
    LATHE_FOR(q, 4) { vst1_u16(p + 4 * q, vshrn_n_u32(vreinterpretq_u32_f32(x.v[q]), 16)); }
  }

  static LATHE_INLINE Floats fma(Floats x, Floats y, Floats z) {
    LATHE_FOR(q, 4) { z.v[q] = vfmaq_f32(z.v[q], x.v[q], y.v[q]); }
    return z;
  }
  static LATHE_INLINE Floats fused(Floats x, Floats y, Floats z) { return fma(x, y, z); }
  static LATHE_INLINE Floats maximum(Floats x, Floats y) { return if_less(y, x, x, y); }  // fmax prefers NaN
  static LATHE_INLINE Floats minimum(Floats x, Floats y) { return if_less(x, y, x, y); }
  static LATHE_INLINE Floats sqrt(Floats x) {
    LATHE_FOR(q, 4) { x.v[q] = vsqrtq_f32(x.v[q]); }
    return x;
  }
  static LATHE_INLINE Floats abs(Floats x) {
    LATHE_FOR(q, 4) { x.v[q] = vabsq_f32(x.v[q]); }
    return x;
  }
  static LATHE_INLINE Floats if_less(Floats x, Floats y, Floats then, Floats otherwise) {
    LATHE_FOR(q, 4) { x.v[q] = vbslq_f32(vcltq_f32(x.v[q], y.v[q]), then.v[q], otherwise.v[q]); }
    return x;
  }
  static LATHE_INLINE Floats round(Floats x) {
    LATHE_FOR(q, 4) { x.v[q] = vrndnq_f32(x.v[q]); }
    return x;
  }
  static LATHE_INLINE Floats scale_by_power(Floats x, Floats n) {
    LATHE_FOR(q, 4) {  // in two steps: 2^n alone may overflow or vanish
      const int32x4_t whole = vcvtq_s32_f32(n.v[q]), half = vshrq_n_s32(whole, 1);
      x.v[q] = vmulq_f32(vmulq_f32(x.v[q], power(half)), power(vsubq_s32(whole, half)));
    }
    return x;
  }
  static LATHE_INLINE Floats keep_lanes(Floats x, int first, int last, float otherwise) {
    const int32_t numbers[4] = {0, 1, 2, 3};
    LATHE_FOR(q, 4) {
      const int32x4_t lane = vaddq_s32(vld1q_s32(numbers), vdupq_n_s32(4 * q));
      const uint32x4_t keep = vandq_u32(vcgeq_s32(lane, vdupq_n_s32(first)), vcltq_s32(lane, vdupq_n_s32(last)));
      x.v[q] = vbslq_f32(keep, x.v[q], vdupq_n_f32(otherwise));
    }
    return x;
  }
  template <int kLanes>
  static LATHE_INLINE void transpose(Floats (&r)[16]) {
    LATHE_FOR(i, (kLanes + 3) / 4) {
      LATHE_FOR(j, 4) {
        if (j >= i) {  // quarters j of rows 4 i ... and quarters i of rows 4 j ... change places
          float32x4_t upper[4], lower[4];
          turn_square(upper, r, i, j);
          turn_square(lower, r, j, i);
          LATHE_FOR(k, 4) {
            r[4 * i + k].v[j] = lower[k];
            r[4 * j + k].v[i] = upper[k];
          }
        }
      }
    }
  }
  static LATHE_INLINE float sum(Floats x) {
    const float32x4_t four = vaddq_f32(vaddq_f32(x.v[0], x.v[2]), vaddq_f32(x.v[1], x.v[3]));
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
  }
  static LATHE_INLINE float largest(Floats x) {
    return vmaxnmvq_f32(vmaxnmq_f32(vmaxnmq_f32(x.v[0], x.v[1]), vmaxnmq_f32(x.v[2], x.v[3])));
  }
  static LATHE_INLINE uint32_t largest_magnitude(Floats x, Floats y) {
    uint32x4_t most = vdupq_n_u32(0);
    LATHE_FOR(q, 4) {
      most = vmaxq_u32(most, vreinterpretq_u32_f32(vabsq_f32(x.v[q])));
      most = vmaxq_u32(most, vreinterpretq_u32_f32(vabsq_f32(y.v[q])));
    }
    return vmaxvq_u32(most);
  }
  static LATHE_INLINE void store_bytes(int8_t* p, Floats x) {
    LATHE_FOR(half, 2) {
      const int16x4_t low = vmovn_s32(vcvtq_s32_f32(x.v[2 * half]));
      const int16x4_t high = vmovn_s32(vcvtq_s32_f32(x.v[2 * half + 1]));
      vst1_s8(p + 8 * half, vmovn_s16(vcombine_s16(low, high)));
    }
  }

  static LATHE_INLINE Ints load_ints(const void* p) {
    Ints x;
    LATHE_FOR(q, 4) { x.v[q] = vreinterpretq_u32_u8(vld1q_u8(static_cast<const uint8_t*>(p) + 16 * q)); }
    return x;
  }
  static LATHE_INLINE void store_ints(void* p, Ints x) {
    LATHE_FOR(q, 4) { vst1q_u8(static_cast<uint8_t*>(p) + 16 * q, vreinterpretq_u8_u32(x.v[q])); }
  }
  static LATHE_INLINE Ints load_signed_bytes(const void* p) {
    const int8x16_t bytes = vld1q_s8(static_cast<const int8_t*>(p));
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_high_s8(bytes);
    return {{vreinterpretq_u32_s32(vmovl_s16(vget_low_s16(low))), vreinterpretq_u32_s32(vmovl_high_s16(low)),
             vreinterpretq_u32_s32(vmovl_s16(vget_low_s16(high))), vreinterpretq_u32_s32(vmovl_high_s16(high))}};
  }
  static LATHE_INLINE Floats to_floats(Ints x) {
    Floats y;
    LATHE_FOR(q, 4) { y.v[q] = vcvtq_f32_s32(vreinterpretq_s32_u32(x.v[q])); }
    return y;
  }
  static LATHE_INLINE Ints bits(Ints x, int shift, uint32_t mask) {
    LATHE_FOR(q, 4) { x.v[q] = (x.v[q] >> static_cast<uint32_t>(shift)) & mask; }
    return x;
  }
  static LATHE_INLINE Ints raised_bits(Ints x, int shift, uint32_t mask) {
    LATHE_FOR(q, 4) { x.v[q] = (x.v[q] << static_cast<uint32_t>(shift)) & mask; }
    return x;
  }
  static LATHE_INLINE Ints look_up(Ints v, const uint8_t* table) {
    const uint8x16_t bytes = vld1q_u8(table);
    LATHE_FOR(q, 4) { v.v[q] = vreinterpretq_u32_u8(vqtbl1q_u8(bytes, vreinterpretq_u8_u32(v.v[q]))); }
    return v;
  }
  static LATHE_INLINE Ints either(Ints x, Ints y) {
    LATHE_FOR(q, 4) { x.v[q] = vorrq_u32(x.v[q], y.v[q]); }
    return x;
  }
  static LATHE_INLINE void split_bf16(Ints x, Floats& first, Floats& second) {
    LATHE_FOR(q, 4) {
      first.v[q] = vreinterpretq_f32_u32(vshlq_n_u32(x.v[q], 16));
      second.v[q] = vreinterpretq_f32_u32(vandq_u32(x.v[q], vdupq_n_u32(0xffff0000u)));
    }
  }
  static LATHE_INLINE Floats round_to_bf16(Floats x) {
    LATHE_FOR(q, 4) {  // as f32_to_bf16, NaN made quiet
      const uint32x4_t word = vreinterpretq_u32_f32(x.v[q]), odd = vandq_u32(vshrq_n_u32(word, 16), vdupq_n_u32(1));
      const uint32x4_t up = vaddq_u32(word, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
      const uint32x4_t quiet = vorrq_u32(word, vdupq_n_u32(0x400000));
      const uint32x4_t rounded = vbslq_u32(vceqq_f32(x.v[q], x.v[q]), up, quiet);
      x.v[q] = vreinterpretq_f32_u32(vandq_u32(rounded, vdupq_n_u32(0xffff0000u)));
    }
    return x;
  }

  struct Sums32 {
    int32x4_t value[4];
    static LATHE_INLINE Sums32 from(int32_t start) {
      const int32x4_t q = vdupq_n_s32(start);
      return {{q, q, q, q}};
    }
    LATHE_INLINE Floats end(int32_t) const {
      return {{vcvtq_f32_s32(value[0]), vcvtq_f32_s32(value[1]), vcvtq_f32_s32(value[2]), vcvtq_f32_s32(value[3])}};
    }
  };
  // Weights of up to six bits are signed bytes as they stand; eight become signed with their upper bit turned, which is
  // what their offset of 128 means.
  template <int kBits>
  struct SignedSum : Sums32 {
    static LATHE_INLINE Sums32 from(int32_t start) { return Sums32::from(kBits == 8 ? 0 : start); }
    static LATHE_INLINE int8x16_t bytes(uint32x4_t weights) {
      if constexpr (kBits == 8) weights = veorq_u32(weights, vdupq_n_u32(0x80808080u));
      return vreinterpretq_s8_u32(weights);
    }
  };
  // Two products, of which none exceeds 128 * 127, fit 16 bits.
  template <int kBits>
  struct IntegerSum : SignedSum<kBits> {
    using Base = SignedSum<kBits>;
    static LATHE_INLINE IntegerSum begin(int32_t start) { return {{Base::from(start)}}; }
    LATHE_INLINE void add(Ints weights, int32_t activations) {
      const int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(activations));
      LATHE_FOR(q, 4) {
        const int8x16_t w = Base::bytes(weights.v[q]);
        const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(x)), high = vmull_high_s8(w, x);
        Base::value[q] = vpadalq_s16(Base::value[q], vpaddq_s16(low, high));
      }
    }
  };

 private:
  static LATHE_INLINE uint16x4_t load_half(const void* p, int q) {
    return vreinterpret_u16_u8(vld1_u8(static_cast<const uint8_t*>(p) + 8 * q));
  }
  static LATHE_INLINE float32x4_t power(int32x4_t n) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
  }
  // Quarters j of rows 4 i to 4 i + 3, turned.
  static LATHE_INLINE void turn_square(float32x4_t (&to)[4], const Floats (&r)[16], int i, int j) {
    float64x2_t pairs[4];
    LATHE_FOR(k, 2) {
      const float32x4_t first = r[4 * i + 2 * k].v[j], second = r[4 * i + 2 * k + 1].v[j];
      pairs[2 * k] = vreinterpretq_f64_f32(vtrn1q_f32(first, second));
      pairs[2 * k + 1] = vreinterpretq_f64_f32(vtrn2q_f32(first, second));
    }
    LATHE_FOR(k, 2) {
      to[k] = vreinterpretq_f32_f64(vtrn1q_f64(pairs[k], pairs[k + 2]));
      to[k + 2] = vreinterpretq_f32_f64(vtrn2q_f64(pairs[k], pairs[k + 2]));
    }
  }
};

#if defined(__ARM_FEATURE_DOTPROD)
// sdot: four products a lane, added to its sum of 32 bits.
struct NeonDot : Neon {
  static constexpr int kIntegerTokens = 2;  // an even number, for rows of two halves
  template <int kBits>
  struct IntegerSum : SignedSum<kBits> {
    using Base = SignedSum<kBits>;
    static LATHE_INLINE IntegerSum begin(int32_t start) { return {{Base::from(start)}}; }
    LATHE_INLINE void add(Ints weights, int32_t activations) {
      const int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(activations));
      LATHE_FOR(q, 4) { Base::value[q] = vdotq_s32(Base::value[q], Base::bytes(weights.v[q]), x); }
    }
  };
};
#endif

#if defined(__ARM_FEATURE_MATMUL_INT8)
// usdot, for which weights stay unsigned, and usmmla: two rows of eight bytes times two tokens of eight.
struct NeonI8mm : Neon {
  static constexpr bool kMultipliesMatrices = true;
  static constexpr int kIntegerTokens = 4;
  template <int kBits>
  struct IntegerSum : Sums32 {
    static LATHE_INLINE IntegerSum begin(int32_t start) { return {Sums32::from(start)}; }
    LATHE_INLINE void add(Ints weights, int32_t activations) {
      const int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(activations));
      LATHE_FOR(q, 4) { value[q] = vusdotq_s32(value[q], vreinterpretq_u8_u32(weights.v[q]), x); }
    }
  };
  // Rows 2 i and 2 i + 1, each with both tokens, in value i.
  struct MatrixSum {
    int32x4_t value[8];
    static LATHE_INLINE MatrixSum begin(int32_t first, int32_t second) {
      const int32x4_t starts = vzip1q_s32(vdupq_n_s32(first), vdupq_n_s32(second));
      MatrixSum sum;
      LATHE_FOR(i, 8) { sum.value[i] = starts; }
      return sum;
    }
    LATHE_INLINE void add(Ints word, Ints next, const int32_t* activations) {
      const int8x16_t x = vreinterpretq_s8_s32(vld1q_s32(activations));
      LATHE_FOR(q, 4) {
        const uint32x4_t lower = vzip1q_u32(word.v[q], next.v[q]), upper = vzip2q_u32(word.v[q], next.v[q]);
        value[2 * q] = vusmmlaq_s32(value[2 * q], vreinterpretq_u8_u32(lower), x);
        value[2 * q + 1] = vusmmlaq_s32(value[2 * q + 1], vreinterpretq_u8_u32(upper), x);
      }
    }
    LATHE_INLINE Floats end(int token) const {
      Floats y;
      LATHE_FOR(q, 4) {
        const int32x4_t lower = value[2 * q], upper = value[2 * q + 1];
        y.v[q] = vcvtq_f32_s32(token == 0 ? vuzp1q_s32(lower, upper) : vuzp2q_s32(lower, upper));
      }
      return y;
    }
  };
};
#endif

}  // namespace lathe::cpu
