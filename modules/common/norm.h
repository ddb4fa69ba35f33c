// The two normalisations as modules.
#pragma once
#include <optional>

#include "autograd/ops.h"
#include "common/module.h"
#include "config/model_sizes.h"

namespace lathe {

// Zhang and Sennrich 2019; `offset` 1 for Gemma, whose weights are stored minus one.
struct RmsNorm {
  Parameter weight;  // (C)
  double eps = 1e-5;
  double offset = 0.0;

  RmsNorm() = default;
  RmsNorm(int64_t width, double eps, double offset = 0.0)
      : weight(Parameter::Kind::norm, {width}), eps(eps), offset(offset) {}
  explicit RmsNorm(const ModelConfig& c);
  RmsNorm(const ModelConfig& c, int64_t width);  // C = width in place of the config's

  Tensor operator()(const Tensor& x) const {  // (..., C) -> (..., C)
    if (!weight.shard) return rms_norm(x, weight, eps, offset);
    // Over columns of which this rank has a part: their mean square is that of all.
    const Shard& own = *weight.shard;
    return own_columns(rms_norm(join_columns(x, *own.ranks, own.rows), weight, eps, offset), *own.ranks, own.rows);
  }
  // x + y, and the norm of that.
  AddNorm add_norm(const Tensor& x, const Tensor& y) const { return add_rms_norm(x, y, weight, eps, offset); }

  void visit(Visitor& v) { v("weight", weight); }
};

// Ba et al. 2016.
struct LayerNorm {
  Parameter weight;               // (C)
  std::optional<Parameter> bias;  // (C)
  double eps = 1e-5;

  LayerNorm() = default;
  LayerNorm(int64_t width, double eps, bool with_bias = true) : weight(Parameter::Kind::norm, {width}), eps(eps) {
    if (with_bias) bias.emplace(Parameter::Kind::bias, Shape{width});
  }
  explicit LayerNorm(const ModelConfig& c);

  Tensor operator()(const Tensor& x) const {  // (..., C) -> (..., C)
    return layer_norm(x, weight, bias ? &*bias : nullptr, eps);
  }
  // x + y, and the norm of that.
  AddNorm add_norm(const Tensor& x, const Tensor& y) const {
    return add_layer_norm(x, y, weight, bias ? &*bias : nullptr, eps);
  }

  void visit(Visitor& v) {
    v("weight", weight);
    if (bias) v("bias", *bias);
  }
};

}  // namespace lathe
