#include "attention/rope_frequencies.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "config/model_config.h"
#include "tensor/errors.h"

namespace lathe {
namespace {

constexpr double kPi = std::numbers::pi;

// Llama 3.1: components whose wavelength exceeds original / low are divided by the factor, those under original / high
// are kept, and in between the two are blended linearly in original / wavelength.
double llama3(const ModelConfig& c, double frequency) {
  const double wavelength = 2.0 * kPi / frequency, original = static_cast<double>(c.rope_original_max_position);
  if (wavelength < original / c.rope_high_freq_factor) return frequency;
  if (wavelength > original / c.rope_low_freq_factor) return frequency / c.rope_factor;
  const double smooth =
      (original / wavelength - c.rope_low_freq_factor) / (c.rope_high_freq_factor - c.rope_low_freq_factor);
  return (1.0 - smooth) * frequency / c.rope_factor + smooth * frequency;
}

// The component that makes `rotations` turns over the original context (Peng et al. 2023, eq. 17 solved for it).
double yarn_component(const ModelConfig& c, double rotations) {
  return static_cast<double>(c.rotary_dim) *
         std::log(static_cast<double>(c.rope_original_max_position) / (rotations * 2.0 * kPi)) /
         (2.0 * std::log(c.rope_theta));
}

// 0 where a component keeps its frequency, 1 where it is divided by the factor.
double yarn_ramp(const ModelConfig& c, int64_t i) {
  double low = yarn_component(c, c.rope_beta_fast), high = yarn_component(c, c.rope_beta_slow);
  if (c.rope_truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(c.rotary_dim - 1));
  if (low == high) high += 0.001;  // the published guard against a division by zero
  return std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
}

double yarn_attention_factor(const ModelConfig& c) {
  const auto mscale = [&](double weight) {
    return c.rope_factor <= 1.0 ? 1.0 : 0.1 * weight * std::log(c.rope_factor) + 1.0;
  };
  if (c.rope_attention_factor) return *c.rope_attention_factor;
  if (c.rope_mscale && c.rope_mscale_all_dim && *c.rope_mscale != 0.0 && *c.rope_mscale_all_dim != 0.0)
    return mscale(*c.rope_mscale) / mscale(*c.rope_mscale_all_dim);
  return mscale(1.0);
}

// Dynamic NTK: the base grows so that the slowest component just spans the longer context.
double dynamic_theta(const ModelConfig& c, int64_t text_length) {
  const double original =
      static_cast<double>(c.rope_original_max_position > 0 ? c.rope_original_max_position : c.max_position_embeddings);
  const double length = std::max(static_cast<double>(text_length), original), r = static_cast<double>(c.rotary_dim);
  return c.rope_theta * std::pow(c.rope_factor * length / original - (c.rope_factor - 1.0), r / (r - 2.0));
}

// Qwen's steps: the base is the same for all lengths up to the original context, up to twice it, four times ...
double qwen_theta(const ModelConfig& c, int64_t text_length) {
  const double ratio = static_cast<double>(text_length) / static_cast<double>(c.rope_original_max_position);
  const double alpha = std::max(std::exp2(std::ceil(std::log2(ratio) + 1.0)) - 1.0, 1.0);
  const double r = static_cast<double>(c.rotary_dim);
  return c.rope_theta * std::pow(alpha, r / (r - 2.0));
}

double theta_of(const ModelConfig& c, int64_t text_length) {
  if (c.rope_scaling == RopeScaling::dynamic) return dynamic_theta(c, text_length);
  if (c.rope_scaling == RopeScaling::qwen) return qwen_theta(c, text_length);
  return c.rope_theta;
}

double longrope_attention_factor(const ModelConfig& c) {
  if (c.rope_attention_factor) return *c.rope_attention_factor;
  return std::sqrt(1.0 + std::log(c.rope_factor) / std::log(static_cast<double>(c.rope_original_max_position)));
}

// theta^(-2i/R)
double unscaled(double theta, int64_t i, int64_t rotary_dim) {
  return std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(rotary_dim));
}

// (R / 2) of a text of `text_length` tokens.
std::vector<float> inverse_frequencies(const ModelConfig& c, int64_t text_length) {
  const double theta = theta_of(c, text_length);
  const auto& divisors = text_length > c.rope_original_max_position ? c.rope_long_factor : c.rope_short_factor;
  const auto factors = static_cast<int64_t>(c.rope_frequency_factors.size());
  check(factors == 0 || factors == c.rotary_dim / 2, "rope", "expected {} frequency factors, found {}",
        c.rotary_dim / 2, factors);
  std::vector<float> inverse(static_cast<size_t>(c.rotary_dim / 2));
  for (int64_t i = 0; i < c.rotary_dim / 2; ++i) {
    double f = unscaled(theta, i, c.rotary_dim);
    switch (c.rope_scaling) {
      case RopeScaling::none:
      case RopeScaling::dynamic:
      case RopeScaling::qwen: break;
      case RopeScaling::linear: f /= c.rope_factor; break;
      case RopeScaling::llama3: f = llama3(c, f); break;
      case RopeScaling::yarn: {
        const double ramp = yarn_ramp(c, i);
        f = f / c.rope_factor * ramp + f * (1.0 - ramp);
        break;
      }
      case RopeScaling::longrope: f /= divisors[static_cast<size_t>(i)]; break;
    }
    if (factors != 0) f /= static_cast<double>(c.rope_frequency_factors[static_cast<size_t>(i)]);
    inverse[static_cast<size_t>(i)] = static_cast<float>(f);
  }
  return inverse;
}

}  // namespace

RopeFrequencies rope_frequencies(const ModelConfig& c, int64_t text_length) {
  RopeFrequencies result;
  if (!c.uses_rope()) return result;
  result.inverse = inverse_frequencies(c, text_length);
  result.text_length = text_length;
  if (c.rope_scaling == RopeScaling::yarn) result.attention_factor = static_cast<float>(yarn_attention_factor(c));
  if (c.rope_scaling == RopeScaling::longrope)
    result.attention_factor = static_cast<float>(longrope_attention_factor(c));
  if (c.rope_scaling == RopeScaling::dynamic)
    result.behind = [c](int64_t position) { return inverse_frequencies(c, position + 1); };
  if (c.rope_local_theta > 0.0)
    for (int64_t i = 0; i < c.rotary_dim / 2; ++i)
      result.local.push_back(static_cast<float>(unscaled(c.rope_local_theta, i, c.rotary_dim)));
  return result;
}

int64_t rope_switch(const ModelConfig& c) {
  return c.uses_rope() && c.rope_scaling == RopeScaling::longrope ? c.rope_original_max_position : 0;
}

}  // namespace lathe
