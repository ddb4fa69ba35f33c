// Optimizer steps, states of 8 bits and sums of squares, a template over the simd struct (simd.h). Included by
// training_<isa>.cpp.
#pragma once
#include "kernels/cpu/simd.h"
#include "kernels/cpu/training.h"

namespace lathe::cpu {

template <class S>
struct OptimizerKernels {
  using Floats = typename S::Floats;

  // In 16 lanes, lane i taking every 16th element from i, which are added in ascending order. A square of an f32 is
  // exact in double, so whether it is fused into its sum makes no difference.
  static double sum_of_squares(const float* x, int64_t n) {
    double lanes[16] = {};
    const int64_t whole = n / 16 * 16;
    for (int64_t i = 0; i < whole; i += 16) LATHE_FOR(lane, 16) {
        const double v = x[i + lane];
        lanes[lane] += v * v;
      }
    for (int64_t i = whole; i < n; ++i) lanes[i - whole] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    double sum = 0;
    for (const double lane : lanes) sum += lane;
    return sum;
  }

  static void adamw(float* w, float* m, float* v, float* g, int64_t n, const AdamwFactors& f) {
    const auto step = [&](int64_t i, int lanes) __attribute__((always_inline)) {
      const Floats d = S::load_partial(g + i, lanes) * S::set1(f.gradient_scale);
      Floats m1 = S::load_partial(m + i, lanes), v1 = S::load_partial(v + i, lanes);
      m1 = m1 + S::set1(f.one_minus_beta1) * (d - m1);
      v1 = v1 * S::set1(f.beta2) + S::set1(f.one_minus_beta2) * d * d;
      const Floats denominator = S::sqrt(v1) / S::set1(f.root_correction2) + S::set1(f.epsilon);
      const Floats decayed = S::load_partial(w + i, lanes) * S::set1(f.keep);
      S::store_partial(w + i, decayed - S::set1(f.step_size) * m1 / denominator, lanes);
      S::store_partial(m + i, m1, lanes);
      S::store_partial(v + i, v1, lanes);
      if (f.clear_gradient) S::store_partial(g + i, S::zero(), lanes);
    };
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) step(i, 16);
    if (i < n) step(i, static_cast<int>(n - i));
  }

  static void sgd(float* w, float* m, float* g, int64_t n, const SgdFactors& f) {
    const auto step = [&](int64_t i, int lanes) __attribute__((always_inline)) {
      const Floats before = S::load_partial(w + i, lanes);
      Floats d = S::load_partial(g + i, lanes) * S::set1(f.gradient_scale) + S::set1(f.weight_decay) * before;
      if (m != nullptr) {
        d = S::load_partial(m + i, lanes) * S::set1(f.momentum) + d;
        S::store_partial(m + i, d, lanes);
      }
      S::store_partial(w + i, before - S::set1(f.learning_rate) * d, lanes);
      if (f.clear_gradient) S::store_partial(g + i, S::zero(), lanes);
    };
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) step(i, 16);
    if (i < n) step(i, static_cast<int>(n - i));
  }

  // philox() of tensor/random.h at kStateBlock / 4 counters from `first` on, 16 of them at a time: word w of counter
  // first + i is words[64 w + i].
  static void draw(uint32_t* words, uint64_t key, uint64_t stream, uint64_t first) {
    constexpr int kCounters = kStateBlock / 4, kLanes = 16;
    for (int at = 0; at < kCounters; at += kLanes) {
      uint32_t a[kLanes], b[kLanes], c[kLanes], d[kLanes];
      for (int i = 0; i < kLanes; ++i) {
        const uint64_t counter = first + static_cast<uint64_t>(at + i);
        a[i] = static_cast<uint32_t>(counter), b[i] = static_cast<uint32_t>(counter >> 32);
        c[i] = static_cast<uint32_t>(stream), d[i] = static_cast<uint32_t>(stream >> 32);
      }
      uint32_t key0 = static_cast<uint32_t>(key), key1 = static_cast<uint32_t>(key >> 32);
      for (int round = 0; round < 10; ++round, key0 += 0x9E3779B9u, key1 += 0xBB67AE85u)
        for (int i = 0; i < kLanes; ++i) {
          const uint64_t p = uint64_t{0xD2511F53u} * a[i], q = uint64_t{0xCD9E8D57u} * c[i];
          a[i] = static_cast<uint32_t>(q >> 32) ^ b[i] ^ key0, b[i] = static_cast<uint32_t>(q);
          c[i] = static_cast<uint32_t>(p >> 32) ^ d[i] ^ key1, d[i] = static_cast<uint32_t>(p);
        }
      for (int i = 0; i < kLanes; ++i) {
        words[at + i] = a[i], words[kCounters + at + i] = b[i];
        words[2 * kCounters + at + i] = c[i], words[3 * kCounters + at + i] = d[i];
      }
    }
  }

  static constexpr float highest_of(StateMap map) { return map == StateMap::any_sign ? 127.0f : 255.0f; }
  static constexpr float fourth_power(float x) { return x * x * (x * x); }
  static LATHE_INLINE Floats fourth_power_of(Floats x) {
    const Floats square = x * x;
    return square * square;
  }

  static void decode(float* x, const int8_t* codes, float scale, StateMap map) {
    const Floats unit = S::set1(scale * (1.0f / fourth_power(highest_of(map))));
    for (int64_t i = 0; i < kStateBlock; i += 16) {
      const Floats code = S::to_floats(S::load_signed_bytes(codes + i));
      if (map == StateMap::positive) {
        S::store(x + i, fourth_power_of(code + S::set1(128.0f)) * unit);
      } else {
        const Floats magnitude = fourth_power_of(code) * unit;
        S::store(x + i, S::if_less(code, S::zero(), S::zero() - magnitude, magnitude));
      }
    }
  }

  // `old` while it fits, in [largest, 4 largest). Else the next power of two, of at least 2^-90 so that no factor
  // overflows; infinity stays.
  static float scale_for(float largest, float old) {
    if (largest <= old && largest > 0.25f * old) return old;
    uint32_t bits;
    std::memcpy(&bits, &largest, sizeof bits);
    bits = (bits + 0x7fffffu) & 0x7f800000u;
    std::memcpy(&largest, &bits, sizeof bits);
    return largest > 0x1p-90f ? largest : 0x1p-90f;
  }

  static void encode(int8_t* codes, float* scale, const float* x, StateMap map, const uint32_t* words, int shift) {
    Floats largest = S::zero();
    for (int64_t i = 0; i < kStateBlock; i += 16) largest = S::maximum(largest, S::abs(S::load(x + i)));
    *scale = scale_for(S::largest(largest), *scale);
    const bool any_sign = map == StateMap::any_sign;
    const Floats highest = S::set1(highest_of(map)), lowest = S::set1(any_sign ? 0.0f : 1.0f), one = S::set1(1.0f);
    const Floats inverse = S::set1(fourth_power(highest_of(map)) * (1.0f / *scale));
    for (int64_t i = 0; i < kStateBlock; i += 16) {
      const Floats value = S::load(x + i), power = S::abs(value) * inverse;
      Floats code = S::maximum(S::round(S::sqrt(S::sqrt(power)) - S::set1(0.5f)), lowest);
      const Floats below = fourth_power_of(code), above = fourth_power_of(code + one);
      const Floats draw = S::to_floats(S::bits(S::load_ints(words + i), shift, 0xffffu)) + S::set1(0.5f);
      const Floats share = draw * S::set1(0x1p-16f) * (above - below);
      code = S::minimum(S::if_less(share, power - below, code + one, code), highest);
      if (any_sign)
        code = S::if_less(value, S::zero(), S::zero() - code, code);
      else
        code = code - S::set1(128.0f);
      S::store_bytes(codes + i, code);
    }
  }

  static constexpr OptimizerTable kTable{sum_of_squares, adamw, sgd, draw, decode, encode};
};

}  // namespace lathe::cpu
