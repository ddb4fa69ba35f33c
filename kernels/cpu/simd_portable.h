// Sixteen lanes without any instruction set: four of the compiler's own 128-bit vectors, which SSE2 and NEON have.
// The oracle of the others, and the form for machines that are not x86.
#pragma once
#include "kernels/cpu/simd.h"

namespace lathe::cpu {

struct Portable {
  typedef float Quarter __attribute__((vector_size(16)));
  typedef int32_t IntQuarter __attribute__((vector_size(16)));
  typedef uint32_t WordQuarter __attribute__((vector_size(16)));
  // A vector number i in memory, at any address. memcpy is a call where clang's sanitizers watch it; GCC 12 forgets
  // that a type is aligned(1) where it folds a load into an operation.
  template <class V>
  static LATHE_INLINE V read(const void* p, int i) {
#if defined(__clang__)
    typedef V Stored __attribute__((aligned(1), may_alias));
    return static_cast<const Stored*>(p)[i];
#else
    V x;
    std::memcpy(&x, static_cast<const V*>(p) + i, sizeof x);
    return x;
#endif
  }
  template <class V>
  static LATHE_INLINE void write(void* p, int i, V x) {
#if defined(__clang__)
    typedef V Stored __attribute__((aligned(1), may_alias));
    static_cast<Stored*>(p)[i] = x;
#else
    std::memcpy(static_cast<V*>(p) + i, &x, sizeof x);
#endif
  }
  struct Floats {
    Quarter v[4];
    friend LATHE_INLINE Floats operator+(Floats x, const Floats& y) {
      return each(x, y, [](auto a, auto b) { return a + b; });
    }
    friend LATHE_INLINE Floats operator-(Floats x, const Floats& y) {
      return each(x, y, [](auto a, auto b) { return a - b; });
    }
    friend LATHE_INLINE Floats operator*(Floats x, const Floats& y) {
      return each(x, y, [](auto a, auto b) { return a * b; });
    }
    friend LATHE_INLINE Floats operator/(Floats x, const Floats& y) {
      return each(x, y, [](auto a, auto b) { return a / b; });
    }
  };
  struct Ints {
    IntQuarter v[4];
  };
  using IntHalves = Ints;  // 16 bits in a lane

  // Linear tiles: groups of 16 rows x tokens. Attention tiles: query rows x pages of 16 keys.
  static constexpr bool kMultipliesBf16 = false, kMultipliesMatrices = false;
  static constexpr int kFloatGroups = 1, kFloatTokens = 2;
  static constexpr int kIntegerGroups = 1, kIntegerTokens = 2;
  static constexpr int kAttentionRows = 2, kAttentionPages = 1;

  static LATHE_INLINE Floats zero() { return Floats{}; }
  static LATHE_INLINE Floats set1(float f) {
    const Quarter q = {f, f, f, f};
    return {{q, q, q, q}};
  }
  static LATHE_INLINE Floats load(const void* p) {
    return {{read<Quarter>(p, 0), read<Quarter>(p, 1), read<Quarter>(p, 2), read<Quarter>(p, 3)}};
  }
  static LATHE_INLINE void store(void* p, const Floats& x) {
    for (int q = 0; q < 4; ++q) write(p, q, x.v[q]);
  }
  static LATHE_INLINE Floats load_partial(const float* p, int n) {
    if (n == 16) return load(p);
    float lanes[16] = {};
    for (int i = 0; i < n; ++i) lanes[i] = p[i];
    return load(lanes);
  }
  static LATHE_INLINE void store_partial(float* p, const Floats& x, int n) {
    if (n == 16) return store(p, x);
    float lanes[16];
    store(lanes, x);
    for (int i = 0; i < n; ++i) p[i] = lanes[i];
  }
  static LATHE_INLINE Floats load_f16(const void* p) {
    const IntHalves h = load_halves(p);
    Floats x;
    for (int q = 0; q < 4; ++q) {
      const IntQuarter sign = (h.v[q] & 0x8000) << 16, magnitude = h.v[q] & 0x7fff;
      const Quarter finite = as_float(magnitude << 13) * 0x1p112f;  // the bias of 127 for that of 15; subnormals too
      const Quarter special = as_float((magnitude << 13) | 0x7f800000);
      x.v[q] = as_float(as_int(select(magnitude < 0x7c00, finite, special)) | sign);
    }
    return x;
  }
  static LATHE_INLINE Floats load_bf16(const void* p) {
    const IntHalves h = load_halves(p);
    Floats x;
    for (int q = 0; q < 4; ++q) x.v[q] = as_float(h.v[q] << 16);
    return x;
  }
  static LATHE_INLINE void store_f16(uint16_t* p, const Floats& x) { store_halves(p, x, f32_to_f16); }
  static LATHE_INLINE void store_bf16(uint16_t* p, const Floats& x) { store_halves(p, x, f32_to_bf16); }

  static LATHE_INLINE Floats fma(const Floats& x, const Floats& y, const Floats& z) { return x * y + z; }
  static LATHE_INLINE Floats fused(const Floats& x, const Floats& y, Floats z) {
    for (int q = 0; q < 4; ++q) {
      const Quarter a = x.v[q], b = y.v[q], c = z.v[q];
      z.v[q] = Quarter{__builtin_fmaf(a[0], b[0], c[0]), __builtin_fmaf(a[1], b[1], c[1]),
                       __builtin_fmaf(a[2], b[2], c[2]), __builtin_fmaf(a[3], b[3], c[3])};
    }
    return z;
  }
  static LATHE_INLINE Floats maximum(Floats x, const Floats& y) {
    return each(x, y, [](auto a, auto b) { return select(a > b, a, b); });
  }
  static LATHE_INLINE Floats minimum(Floats x, const Floats& y) {
    return each(x, y, [](auto a, auto b) { return select(a < b, a, b); });
  }
  static LATHE_INLINE Floats sqrt(Floats x) {
    for (Quarter& q : x.v)
      q = Quarter{__builtin_sqrtf(q[0]), __builtin_sqrtf(q[1]), __builtin_sqrtf(q[2]), __builtin_sqrtf(q[3])};
    return x;
  }
  static LATHE_INLINE Floats abs(Floats x) {
    for (Quarter& q : x.v) q = as_float(as_int(q) & 0x7fffffff);
    return x;
  }
  static LATHE_INLINE Floats if_less(const Floats& x, const Floats& y, const Floats& then, Floats otherwise) {
    for (int q = 0; q < 4; ++q) otherwise.v[q] = select(x.v[q] < y.v[q], then.v[q], otherwise.v[q]);
    return otherwise;
  }
  static LATHE_INLINE Floats round(Floats x) {
    for (Quarter& q : x.v) q = (q + 12582912.0f) - 12582912.0f;  // the ulp at 1.5 * 2^23 is 1
    return x;
  }
  static LATHE_INLINE Floats scale_by_power(Floats x, const Floats& n) {
    for (int q = 0; q < 4; ++q) {  // in two steps: 2^n alone may overflow or vanish
      const IntQuarter whole = as_int(n.v[q] + 12582912.0f) - 0x4b400000, half = whole >> 1, rest = whole - half;
      x.v[q] = x.v[q] * as_float((half + 127) << 23) * as_float((rest + 127) << 23);
    }
    return x;
  }
  static LATHE_INLINE Floats keep_lanes(Floats x, int first, int last, float otherwise) {
    for (int q = 0; q < 4; ++q)
      for (int i = 0; i < 4; ++i)
        if (4 * q + i < first || 4 * q + i >= last) x.v[q][i] = otherwise;
    return x;
  }
  template <int kLanes>
  static LATHE_INLINE void transpose(Floats (&r)[16]) {
    float lanes[16][16];
    std::memcpy(lanes, r, sizeof lanes);
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < 16; ++j) r[j].v[i / 4][i % 4] = lanes[i][j];
  }
  static LATHE_INLINE float sum(const Floats& x) {
    const Quarter s = (x.v[0] + x.v[2]) + (x.v[1] + x.v[3]);
    return (s[0] + s[2]) + (s[1] + s[3]);
  }
  static LATHE_INLINE float largest(const Floats& x) {
    float most = x.v[0][0];
    for (int i = 1; i < 16; ++i) most = x.v[i / 4][i % 4] > most ? x.v[i / 4][i % 4] : most;
    return most;
  }
  static LATHE_INLINE uint32_t largest_magnitude(const Floats& v, const Floats& w) {
    uint32_t most = 0;
    for (int i = 0; i < 32; ++i) {
      const Quarter& q = (i < 16 ? v : w).v[i % 16 / 4];
      const uint32_t bits = static_cast<uint32_t>(as_int(q)[i % 4]) & 0x7fffffffu;
      most = bits > most ? bits : most;
    }
    return most;
  }
  static LATHE_INLINE void store_bytes(int8_t* p, const Floats& v) {
    for (int i = 0; i < 16; ++i) p[i] = static_cast<int8_t>(v.v[i / 4][i % 4]);
  }

  static LATHE_INLINE Ints load_ints(const void* p) {
    return {{read<IntQuarter>(p, 0), read<IntQuarter>(p, 1), read<IntQuarter>(p, 2), read<IntQuarter>(p, 3)}};
  }
  static LATHE_INLINE void store_ints(void* p, const Ints& x) {
    for (int q = 0; q < 4; ++q) write(p, q, x.v[q]);
  }
  static LATHE_INLINE Ints load_signed_bytes(const void* p) {
    typedef int8_t ByteQuarter __attribute__((vector_size(4)));
    Ints x;
    for (int q = 0; q < 4; ++q) x.v[q] = __builtin_convertvector(read<ByteQuarter>(p, q), IntQuarter);
    return x;
  }
  static LATHE_INLINE Floats to_floats(const Ints& x) {
    Floats y;
    for (int q = 0; q < 4; ++q) y.v[q] = __builtin_convertvector(x.v[q], Quarter);
    return y;
  }
  static LATHE_INLINE Ints bits(Ints x, int shift, uint32_t mask) {
    for (IntQuarter& q : x.v) q = (q >> shift) & static_cast<int32_t>(mask);
    return x;
  }
  static LATHE_INLINE Ints raised_bits(Ints x, int shift, uint32_t mask) {
    for (IntQuarter& q : x.v) q = (q << shift) & static_cast<int32_t>(mask);
    return x;
  }
  static LATHE_INLINE Ints either(Ints x, const Ints& y) {
    for (int q = 0; q < 4; ++q) x.v[q] |= y.v[q];
    return x;
  }
  static LATHE_INLINE Ints look_up(Ints x, const uint8_t* table) {
    uint8_t bytes[64];
    store_ints(bytes, x);
    for (uint8_t& byte : bytes) byte = table[byte];
    return load_ints(bytes);
  }
  static LATHE_INLINE void split_bf16(const Ints& x, Floats& first, Floats& second) {
    for (int q = 0; q < 4; ++q) {
      first.v[q] = as_float(x.v[q] << 16);
      second.v[q] = as_float(x.v[q] & static_cast<int32_t>(0xffff0000u));
    }
  }
  static LATHE_INLINE Floats round_to_bf16(Floats x) {
    for (Quarter& q : x.v) {  // as f32_to_bf16, NaN made quiet
      const WordQuarter bits = reinterpret_cast<WordQuarter>(q), up = bits + (0x7fff + ((bits >> 16) & 1));
      const IntQuarter quiet = as_int(q) | 0x400000;
      // Unequal to itself is NaN alone. NOLINTNEXTLINE(misc-redundant-expression)
      q = as_float(as_int(select(q != q, as_float(quiet), reinterpret_cast<Quarter>(up))) &
                   static_cast<int32_t>(0xffff0000u));
    }
    return x;
  }

  // The sums are kept in f32: they stay below 2^24, so they are exact.
  template <int kBits>
  struct IntegerSum {
    Floats value;
    static LATHE_INLINE IntegerSum begin(int32_t start) { return {set1(static_cast<float>(start))}; }
    LATHE_INLINE void add(const Ints& weights, int32_t activations) {
      for (int shift = 0; shift < 32; shift += 8)
        value = value + to_floats(bits(weights, shift, 255)) *
                            set1(static_cast<float>(static_cast<int8_t>(activations >> shift)));
    }
    LATHE_INLINE Floats end(int32_t) const { return value; }
  };

  // Helpers of the above.
  static LATHE_INLINE IntHalves load_halves(const void* p) {
    typedef uint16_t HalfQuarter __attribute__((vector_size(8)));
    IntHalves x;
    for (int q = 0; q < 4; ++q) x.v[q] = __builtin_convertvector(read<HalfQuarter>(p, q), IntQuarter);
    return x;
  }
  template <class F>
  static LATHE_INLINE Floats each(Floats x, const Floats& y, F f) {
    for (int q = 0; q < 4; ++q) x.v[q] = f(x.v[q], y.v[q]);
    return x;
  }
  static LATHE_INLINE Quarter as_float(IntQuarter x) { return reinterpret_cast<Quarter>(x); }
  static LATHE_INLINE IntQuarter as_int(Quarter x) { return reinterpret_cast<IntQuarter>(x); }
  static LATHE_INLINE Quarter select(IntQuarter mask, Quarter then, Quarter otherwise) {
    return as_float((mask & as_int(then)) | (~mask & as_int(otherwise)));
  }
  template <class F>
  static LATHE_INLINE void store_halves(uint16_t* p, const Floats& x, F narrow) {
    for (int i = 0; i < 16; ++i) p[i] = narrow(x.v[i / 4][i % 4]);
  }
};

}  // namespace lathe::cpu
