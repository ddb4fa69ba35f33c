// A sparse mixture of gated feed-forward nets: a router sends each token through a few of them.
//
// y = sum over the chosen e of w_e expert_e(x), w the softmax of the router's logits (Shazeer et al. 2017, eq. 1; Jiang
// et al. 2024, section 2.1). Tokens are sorted by expert, so that each expert's weights are read once for all of its
// tokens; a token's bits do not depend on who shares its experts.
#pragma once
#include <variant>
#include <vector>

#include "common/feed_forward_net.h"
#include "common/router_logits.h"

namespace lathe {

struct MixtureOfExperts {
  static constexpr ModelPart kPart = ModelPart::feed_forward;
  Linear gate;  // the router: (E, C)
  std::vector<GatedFeedForwardNet> experts;
  int64_t per_token = 0;
  bool normalise = false;

  explicit MixtureOfExperts(const ModelConfig& c);

  Tensor operator()(const Tensor& x) const {  // (N, C) -> (N, C)
    const TapScope scope("mlp");
    const Tensor logits = gate(x);  // (N, E)
    tap("router_logits", logits);
    RouterLogits::add(logits);
    ExpertRoutes routes = route_experts(logits, per_token, normalise);  // N k places
    tap("expert_weights", routes.weights);
    std::vector<LinearWeight> gate_up, down;
    for (const GatedFeedForwardNet& expert : experts) {
      for (const Linear& part : expert.gate_up.parts) gate_up.push_back(part.parts());
      down.push_back(expert.down_proj.parts());
    }
    const int64_t width = experts[0].gate_up.parts[0].out();
    const Tensor input = whole_input(x, experts[0].gate_up.parts[0].weight);                        // (N, C)
    const Tensor packed = grouped_linear(select_rows(input, routes.rows), routes.starts, gate_up);  // (N k, 2 F)
    const Tensor h = gated_activation(slice_columns(packed, 0, width), slice_columns(packed, width, width),
                                      experts[0].f);  // (N k, F)
    const Parameter& last = experts[0].down_proj.weight;
    if (last.shard) routes.weights = sum_gradients(routes.weights, *last.shard->ranks);
    const Tensor y = combine_experts(grouped_linear(whole_input(h, last), routes.starts, down), routes);  // (N, C)
    return dropout(whole_output(y, last));
  }

  void visit(Visitor& v) {
    v("gate", gate);
    v("experts", experts);
  }
};

// A mixture in the layers that have experts, one net in the others.
struct SparseOrDenseNet {
  static constexpr ModelPart kPart = ModelPart::feed_forward;
  std::variant<GatedFeedForwardNet, MixtureOfExperts> net;

  SparseOrDenseNet(const ModelConfig& c, int64_t layer);

  Tensor operator()(const Tensor& x) const {  // (N, C) -> (N, C)
    return std::visit([&](const auto& n) { return n(x); }, net);
  }
  void visit(Visitor& v) {
    std::visit([&](auto& n) { n.visit(v); }, net);
  }
};

}  // namespace lathe
