#include "common/feed_forward_net.h"

namespace lathe {

Activation parse_activation(const std::string& name) {
  if (name == "silu" || name == "swish") return Activation::silu;
  if (name == "gelu") return Activation::gelu_exact;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast") return Activation::gelu_tanh;
  throw Error(fmt::format("hidden_act: expected silu, gelu, gelu_new or gelu_pytorch_tanh, found \"{}\"", name));
}

Tensor project_down(const Tensor& gate, const Tensor& up, Activation f, const Linear& down) {
  if (Observer::current() == nullptr && !down.weight.shard) return activated_linear(gate, up, f, down.parts());
  const Tensor h = up.defined() ? gated_activation(gate, up, f) : activation(gate, f);  // (N, F)
  tap("hidden", h);
  return down(h);
}

}  // namespace lathe
