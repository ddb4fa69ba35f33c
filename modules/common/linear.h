// y = x W^T + b, alone or several over one input.
#pragma once
#include <array>
#include <optional>

#include "autograd/ops.h"
#include "common/module.h"

namespace lathe {

struct Linear {
  Parameter weight;               // (out, in)
  std::optional<Parameter> bias;  // (out)

  Linear() = default;
  Linear(int64_t in, int64_t out, bool with_bias, Parameter::Kind kind = Parameter::Kind::matrix)
      : weight(kind, {out, in}) {
    if (with_bias) bias.emplace(Parameter::Kind::bias, Shape{out});
  }
  int64_t out() const { return weight.shape[0]; }
  LinearWeight parts() const { return {&weight, bias ? &*bias : nullptr}; }

  Tensor operator()(const Tensor& x) const {  // (N, in) -> (N, out)
    return whole_output(linear(whole_input(x, weight), parts()), weight);
  }

  void visit(Visitor& v) {
    v("weight", weight);
    if (bias) v("bias", *bias);
  }
};

// Projections that share their input (q, k, v; gate, up) as one product. Its parts stay parameters of their own: they
// may differ in dtype (GGUF mixes them), and the owner visits them under their own names.
template <size_t Parts>
struct PackedLinear {
  std::array<Linear, Parts> parts;

  Linear& operator[](size_t i) { return parts[i]; }

  // (N, in) -> column slices (N, out_i) of one packed result
  std::array<Tensor, Parts> operator()(const Tensor& x) const {
    std::array<LinearWeight, Parts> weights;
    for (size_t i = 0; i < Parts; ++i) weights[i] = parts[i].parts();
    const Tensor packed = linear(whole_input(x, parts[0].weight), weights);  // (N, sum of out_i)
    std::array<Tensor, Parts> slices;
    int64_t begin = 0;
    for (size_t i = 0; i < Parts; ++i) {
      slices[i] = slice_columns(packed, begin, parts[i].out());
      begin += parts[i].out();
    }
    return slices;
  }
};

}  // namespace lathe
