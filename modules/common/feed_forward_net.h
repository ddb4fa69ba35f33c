// The two feed-forward nets of a block.
#pragma once
#include <string>

#include "common/dropout.h"
#include "common/linear.h"
#include "common/observer.h"
#include "config/model_sizes.h"

namespace lathe {

// "silu", "swish"; "gelu"; "gelu_new", "gelu_pytorch_tanh", "gelu_fast". Throws Error naming the value and the choices.
Activation parse_activation(const std::string& name);

// down(f(gate) * up), or down(f(gate)) where `up` is undefined: (N, F) -> (N, C). What down multiplies is made for an
// observer only, and where ranks share it out.
Tensor project_down(const Tensor& gate, const Tensor& up, Activation f, const Linear& down);

// down(f(gate(x)) * up(x)): Shazeer 2020, eq. 6.
struct GatedFeedForwardNet {
  static constexpr ModelPart kPart = ModelPart::feed_forward;
  PackedLinear<2> gate_up;
  Linear down_proj;
  Activation f = Activation::silu;

  GatedFeedForwardNet() = default;
  explicit GatedFeedForwardNet(const ModelConfig& c);
  GatedFeedForwardNet(int64_t hidden_size, int64_t intermediate_size, bool bias, Activation f);

  Tensor operator()(const Tensor& x) const {  // (N, C) -> (N, C)
    const TapScope scope("mlp");
    const auto [gate, up] = gate_up(x);  // (N, F) each
    tap("gate", gate);
    tap("up", up);
    return dropout(project_down(gate, up, f, down_proj));
  }

  void visit(Visitor& v) {
    v("gate_proj", gate_up[0]);
    v("up_proj", gate_up[1]);
    v("down_proj", down_proj);
  }
};

// down(f(up(x))): Vaswani et al. 2017, eq. 2, with a smooth f.
struct FeedForwardNet {
  static constexpr ModelPart kPart = ModelPart::feed_forward;
  Linear up_proj, down_proj;
  Activation f = Activation::gelu_tanh;

  FeedForwardNet() = default;
  explicit FeedForwardNet(const ModelConfig& c);

  Tensor operator()(const Tensor& x) const {  // (N, C) -> (N, C)
    const TapScope scope("mlp");
    const Tensor up = up_proj(x);  // (N, F)
    tap("up", up);
    return dropout(project_down(up, {}, f, down_proj));
  }

  void visit(Visitor& v) {
    v("up_proj", up_proj);
    v("down_proj", down_proj);
  }
};

}  // namespace lathe
