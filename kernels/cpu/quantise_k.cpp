// Rounding to the block formats that need a search: q5_0 and q5_1 are direct, the K formats and IQ4 choose each run's
// scale (and minimum) by weighted least squares over a few candidates, then round the scales themselves to six or eight
// bits against the block's f16 factor and the quants once more against the rounded scales. The weights, x^2 plus the
// mean of the block's, favour what contributes most to a product. It is the idea of ggml's quantisers, not their
// arithmetic: files differ in bits, not in kind.
#include "kernels/cpu/quantise_k.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/packed_layout.h"
#include "tensor/dtype.h"

namespace lathe::cpu {
namespace {

void put_half(uint8_t* p, float v) {
  const uint16_t h = f32_to_f16(v);
  std::memcpy(p, &h, 2);
}
float float_of_half(const uint8_t* p) {
  uint16_t h;
  std::memcpy(&h, p, 2);
  return f16_to_f32(h);
}

// v rounded to nearest in [least, most]; NaN becomes the least.
int rounded(float v, int least, int most) {
  if (!(v > static_cast<float>(least))) return least;
  return v >= static_cast<float>(most) ? most : static_cast<int>(std::nearbyint(v));
}

float inverse(float v) { return v != 0 ? 1.0f / v : 0.0f; }

constexpr int kCandidates = 9;  // to each side, a tenth of a quant apart

struct Run {
  const float* x;
  const float* weight;
  int size;
};

// The scale s for which the numbers that `number` rounds x / s to leave the least error. What lies furthest out is
// tried at -levels and around, `apart` from one candidate to the next.
template <class Number>
float symmetric_scale(const Run& run, int levels, float apart, Number number) {
  float extreme = 0;  // with its sign: the formats reach further below zero than above
  for (int i = 0; i < run.size; ++i)
    if (std::fabs(run.x[i]) > std::fabs(extreme)) extreme = run.x[i];
  float best_scale = 0, best = -1;
  if (extreme == 0) return 0;
  for (int c = -kCandidates; c <= kCandidates; ++c) {
    const float step = -(static_cast<float>(levels) + apart * static_cast<float>(c)) / extreme;
    double xq = 0, qq = 0;
    for (int i = 0; i < run.size; ++i) {
      const auto q = static_cast<double>(number(run.x[i] * step));
      xq += static_cast<double>(run.weight[i]) * run.x[i] * q;
      qq += run.weight[i] * q * q;
    }
    if (qq == 0) continue;
    const auto gain = static_cast<float>(xq * xq / qq);  // what least squares takes off the error
    if (gain > best) {
      best = gain;
      best_scale = static_cast<float>(xq / qq);
    }
  }
  return best_scale;
}

struct Affine {
  float scale = 0, minimum = 0;  // x ~ q * scale - minimum, minimum >= 0
};

double error_of(const Run& run, const Affine& a, int most) {
  double error = 0;
  const float step = inverse(a.scale);
  for (int i = 0; i < run.size; ++i) {
    const float q = static_cast<float>(rounded((run.x[i] + a.minimum) * step, 0, most));
    const double d = static_cast<double>(q * a.scale - a.minimum) - run.x[i];
    error += run.weight[i] * d * d;
  }
  return error;
}

// Least squares of scale and minimum for the quants that `guess` gives.
Affine refined(const Run& run, const Affine& guess, int most) {
  double w = 0, q1 = 0, q2 = 0, x1 = 0, xq = 0;
  const float step = inverse(guess.scale);
  for (int i = 0; i < run.size; ++i) {
    const double q = rounded((run.x[i] + guess.minimum) * step, 0, most), weight = run.weight[i];
    w += weight;
    q1 += weight * q;
    q2 += weight * q * q;
    x1 += weight * run.x[i];
    xq += weight * q * run.x[i];
  }
  const double determinant = w * q2 - q1 * q1;
  if (determinant <= 0) return guess;
  Affine a{static_cast<float>((w * xq - q1 * x1) / determinant), static_cast<float>((q1 * xq - q2 * x1) / determinant)};
  if (a.minimum < 0) a = {q2 > 0 ? static_cast<float>(xq / q2) : 0.0f, 0.0f};
  return a.scale > 0 ? a : guess;
}

Affine affine_scale(const Run& run, int most) {
  float least = 0, largest = 0;  // zero is always within reach: the minimum cannot be negative
  for (int i = 0; i < run.size; ++i) {
    least = std::fmin(least, run.x[i]);
    largest = std::fmax(largest, run.x[i]);
  }
  if (least == largest) return {};
  Affine best{(largest - least) / static_cast<float>(most), -least};
  double best_error = error_of(run, best, most);
  for (int c = -kCandidates; c <= kCandidates; ++c) {
    const float levels = static_cast<float>(most) + 0.1f * static_cast<float>(c);
    const Affine a = refined(run, {(largest - least) / levels, -least}, most);
    const double error = error_of(run, a, most);
    if (error < best_error) {
      best = a;
      best_error = error;
    }
  }
  return best;
}

void weights_of(float* weight, const float* x, int size) {
  float mean = 0;
  for (int i = 0; i < size; ++i) mean += x[i] * x[i] / static_cast<float>(size);
  for (int i = 0; i < size; ++i) weight[i] = mean + x[i] * x[i];
}

int number_in_table(int place) { return number_of<DType::iq4_nl>(place); }

// The place in the table of IQ4 whose number is nearest to v; NaN becomes the first.
int nearest_place(float v) {
  int place = 0;
  for (int i = 1; i < 16; ++i) place += v > 0.5f * static_cast<float>(number_in_table(i - 1) + number_in_table(i));
  return place;
}

float table_scale(const float* x) {
  float weight[32];
  weights_of(weight, x, 32);
  return symmetric_scale({x, weight, 32}, 127, 2.0f, [](float v) { return number_in_table(nearest_place(v)); });
}

// Sixteen bytes of the places of 32 columns.
void put_places(uint8_t* nibbles, const float* x, float scale) {
  const float step = inverse(scale);
  for (int i = 0; i < 16; ++i)
    nibbles[i] = static_cast<uint8_t>(nearest_place(x[i] * step) | nearest_place(x[16 + i] * step) << 4);
}

void put_nibbles_and_bits(uint8_t* nibbles, uint8_t* high_bits, const int* q) {
  uint32_t high = 0;
  for (int i = 0; i < 16; ++i) {
    nibbles[i] = static_cast<uint8_t>((q[i] & 15) | (q[16 + i] & 15) << 4);
    high |= static_cast<uint32_t>(q[i] >> 4) << i | static_cast<uint32_t>(q[16 + i] >> 4) << (16 + i);
  }
  std::memcpy(high_bits, &high, 4);
}

// What q4_k and q5_k share: the quants of 256 columns; writes factors and scales.
void quantise_affine_k(uint8_t* block, int* q, const float* x, int most) {
  Affine run[8];
  float weight[32], largest_scale = 0, largest_minimum = 0;
  for (int r = 0; r < 8; ++r) {
    weights_of(weight, x + 32 * r, 32);
    run[r] = affine_scale({x + 32 * r, weight, 32}, most);
    largest_scale = std::fmax(largest_scale, run[r].scale);
    largest_minimum = std::fmax(largest_minimum, run[r].minimum);
  }
  put_half(block, largest_scale / 63.0f);
  put_half(block + 2, largest_minimum / 63.0f);
  const float factor = float_of_half(block), base = float_of_half(block + 2);
  int scale[8], minimum[8];
  for (int r = 0; r < 8; ++r) {
    scale[r] = rounded(run[r].scale * inverse(factor), 0, 63);
    minimum[r] = rounded(run[r].minimum * inverse(base), 0, 63);
    const float s = inverse(factor * static_cast<float>(scale[r])), m = base * static_cast<float>(minimum[r]);
    for (int i = 32 * r; i < 32 * r + 32; ++i) q[i] = rounded((x[i] + m) * s, 0, most);
  }
  uint8_t* packed = block + 4;  // read_six_bit_scales in block_formats.h is the other way
  for (int i = 0; i < 4; ++i) {
    packed[i] = static_cast<uint8_t>(scale[i] | scale[4 + i] >> 4 << 6);
    packed[4 + i] = static_cast<uint8_t>(minimum[i] | minimum[4 + i] >> 4 << 6);
    packed[8 + i] = static_cast<uint8_t>((scale[4 + i] & 15) | (minimum[4 + i] & 15) << 4);
  }
}

}  // namespace

void quantise_q5_0(uint8_t* block, const float* x) {
  float extreme = 0;  // becomes exactly -16
  for (int i = 0; i < 32; ++i)
    if (std::fabs(x[i]) > std::fabs(extreme)) extreme = x[i];
  const float scale = extreme / -16.0f, step = inverse(scale);
  put_half(block, scale);
  int q[32];
  for (int i = 0; i < 32; ++i) q[i] = rounded(std::floor(x[i] * step + 16.5f), 0, 31);
  put_nibbles_and_bits(block + 6, block + 2, q);
}

void quantise_q5_1(uint8_t* block, const float* x) {
  float least = x[0], most = x[0];
  for (int i = 1; i < 32; ++i) {
    least = std::fmin(least, x[i]);
    most = std::fmax(most, x[i]);
  }
  const float scale = (most - least) / 31.0f, step = inverse(scale);
  put_half(block, scale);
  put_half(block + 2, least);
  int q[32];
  for (int i = 0; i < 32; ++i) q[i] = rounded(std::floor((x[i] - least) * step + 0.5f), 0, 31);
  put_nibbles_and_bits(block + 8, block + 4, q);
}

void quantise_q4_k(uint8_t* block, const float* x) {
  int q[256];
  quantise_affine_k(block, q, x, 15);
  for (int c = 0; c < 4; ++c)
    for (int i = 0; i < 32; ++i) block[16 + 32 * c + i] = static_cast<uint8_t>(q[64 * c + i] | q[64 * c + 32 + i] << 4);
}

void quantise_q5_k(uint8_t* block, const float* x) {
  int q[256];
  quantise_affine_k(block, q, x, 31);
  std::memset(block + 16, 0, 32);
  for (int c = 0; c < 4; ++c)
    for (int i = 0; i < 32; ++i) {
      const int first = q[64 * c + i], second = q[64 * c + 32 + i];
      block[16 + i] |= static_cast<uint8_t>(first >> 4 << (2 * c) | second >> 4 << (2 * c + 1));
      block[48 + 32 * c + i] = static_cast<uint8_t>((first & 15) | (second & 15) << 4);
    }
}

void quantise_q6_k(uint8_t* block, const float* x) {
  float weight[16], scale[16], extreme = 0;
  for (int r = 0; r < 16; ++r) {
    weights_of(weight, x + 16 * r, 16);
    scale[r] = symmetric_scale({x + 16 * r, weight, 16}, 32, 0.1f, [](float v) { return rounded(v, -32, 31); });
    if (std::fabs(scale[r]) > std::fabs(extreme)) extreme = scale[r];
  }
  put_half(block + 208, extreme / -128.0f);
  const float factor = float_of_half(block + 208);
  int q[256];
  for (int r = 0; r < 16; ++r) {
    const int s = rounded(scale[r] * inverse(factor), -128, 127);
    block[192 + r] = static_cast<uint8_t>(static_cast<int8_t>(s));
    const float step = inverse(factor * static_cast<float>(s));
    for (int i = 16 * r; i < 16 * r + 16; ++i) q[i] = rounded(x[i] * step, -32, 31) + 32;
  }
  for (int h = 0; h < 2; ++h)
    for (int i = 0; i < 32; ++i) {
      const int* p = q + 128 * h + i;
      block[64 * h + i] = static_cast<uint8_t>((p[0] & 15) | (p[64] & 15) << 4);
      block[64 * h + 32 + i] = static_cast<uint8_t>((p[32] & 15) | (p[96] & 15) << 4);
      block[128 + 32 * h + i] = static_cast<uint8_t>(p[0] >> 4 | p[32] >> 4 << 2 | p[64] >> 4 << 4 | p[96] >> 4 << 6);
    }
}

void quantise_iq4_nl(uint8_t* block, const float* x) {
  put_half(block, table_scale(x));
  put_places(block + 2, x, float_of_half(block));
}

void quantise_iq4_xs(uint8_t* block, const float* x) {
  float scale[8], extreme = 0;
  for (int r = 0; r < 8; ++r) {
    scale[r] = table_scale(x + 32 * r);
    if (std::fabs(scale[r]) > std::fabs(extreme)) extreme = scale[r];
  }
  put_half(block, extreme / -32.0f);
  const float factor = float_of_half(block);
  std::memset(block + 2, 0, 6);
  for (int r = 0; r < 8; ++r) {
    const int s = rounded(scale[r] * inverse(factor), -32, 31), stored = s + 32;
    block[2 + r / 4] |= static_cast<uint8_t>(stored >> 4 << (r % 4 * 2));
    block[4 + r / 2] |= static_cast<uint8_t>((stored & 15) << (r % 2 * 4));
    put_places(block + 8 + 16 * r, x + 32 * r, factor * static_cast<float>(s));
  }
}

}  // namespace lathe::cpu
