// What the modules of this folder take from a ModelConfig, in one place: a new field compiles this file and not theirs.
#include "common/feed_forward_net.h"
#include "common/mixture_of_experts.h"
#include "common/norm.h"
#include "config/model_config.h"

namespace lathe {

template <>
std::vector<Tensor>*& Active<std::vector<Tensor>>::slot() {
  static thread_local std::vector<Tensor>* list = nullptr;
  return list;
}

RmsNorm::RmsNorm(const ModelConfig& c) : RmsNorm(c, c.hidden_size) {}
RmsNorm::RmsNorm(const ModelConfig& c, int64_t width) : RmsNorm(width, c.norm_eps, c.norm_offset) {}
LayerNorm::LayerNorm(const ModelConfig& c) : LayerNorm(c.hidden_size, c.norm_eps) {}

GatedFeedForwardNet::GatedFeedForwardNet(const ModelConfig& c)
    : GatedFeedForwardNet(c.hidden_size, c.intermediate_size, c.mlp_bias, parse_activation(c.hidden_act)) {}

GatedFeedForwardNet::GatedFeedForwardNet(int64_t hidden_size, int64_t intermediate_size, bool bias, Activation f)
    : gate_up{{Linear(hidden_size, intermediate_size, bias), Linear(hidden_size, intermediate_size, bias)}},
      down_proj(intermediate_size, hidden_size, bias),
      f(f) {}

FeedForwardNet::FeedForwardNet(const ModelConfig& c)
    : up_proj(c.hidden_size, c.intermediate_size, c.mlp_bias),
      down_proj(c.intermediate_size, c.hidden_size, c.mlp_bias),
      f(parse_activation(c.hidden_act)) {}

MixtureOfExperts::MixtureOfExperts(const ModelConfig& c)
    : gate(c.hidden_size, c.num_experts, false, Parameter::Kind::router),
      per_token(c.num_experts_per_tok),
      normalise(c.norm_topk_prob) {
  GatedFeedForwardNet expert(c.hidden_size, c.moe_intermediate_size, c.mlp_bias, parse_activation(c.hidden_act));
  Visitor each([&](const NamedParameter& p) {
    p.parameter->share = static_cast<double>(c.num_experts_per_tok) / static_cast<double>(c.num_experts);
  });
  expert.visit(each);
  experts.resize(static_cast<size_t>(c.num_experts), expert);
}

SparseOrDenseNet::SparseOrDenseNet(const ModelConfig& c, int64_t layer) {
  if (c.has_experts(layer))
    net.emplace<MixtureOfExperts>(c);
  else
    net.emplace<GatedFeedForwardNet>(c);
}

}  // namespace lathe
