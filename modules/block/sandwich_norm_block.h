// The block with norms before and after its parts: x + norm(attention(norm(x))), then x + norm(feed_forward(norm(x))).
// Ding et al. 2021 (CogView), section 3.2; Gemma 2 and 3.
#pragma once
#include "attention/grouped_query_attention.h"

namespace lathe {

template <class Norm, class FeedForward, class Attention = GroupedQueryAttention>
struct SandwichNormBlock {
  Norm input_layernorm, post_attention_layernorm, pre_feedforward_layernorm, post_feedforward_layernorm;
  Attention self_attn;
  FeedForward mlp;

  SandwichNormBlock(const ModelConfig& c, int64_t layer)
      : input_layernorm(c),
        post_attention_layernorm(c),
        pre_feedforward_layernorm(c),
        post_feedforward_layernorm(c),
        self_attn(c, layer),
        mlp(c) {}

  Tensor operator()(const Tensor& input, const Batch& batch) const {  // (N, C) -> (N, C)
    const TapScope scope("layers", self_attn.layer);
    const Tensor normal = tap("input_layernorm", input_layernorm(input));  // (N, C)
    Tensor y = tap("self_attn", self_attn(normal, batch));                 // (N, C)
    y = tap("post_attention_layernorm", post_attention_layernorm(y));      // (N, C)
    const auto [x, n] = pre_feedforward_layernorm.add_norm(input, y);      // (N, C): input + y, and its norm
    y = tap("mlp", mlp(tap("pre_feedforward_layernorm", n)));              // (N, C)
    return tap("output", add(x, tap("post_feedforward_layernorm", post_feedforward_layernorm(y))));  // (N, C)
  }

  void visit(Visitor& v) {
    v("input_layernorm", input_layernorm);
    v("self_attn", self_attn);
    v("post_attention_layernorm", post_attention_layernorm);
    v("pre_feedforward_layernorm", pre_feedforward_layernorm);
    v("mlp", mlp);
    v("post_feedforward_layernorm", post_feedforward_layernorm);
  }
};

}  // namespace lathe
