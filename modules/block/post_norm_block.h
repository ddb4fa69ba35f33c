// The block with norms after its parts, inside the residual: x + norm(attention(x)), then x + norm(feed_forward(x)).
// Liu et al. 2021 (Swin Transformer V2), section 3.2; OLMo 2.
#pragma once
#include "attention/grouped_query_attention.h"

namespace lathe {

template <class Norm, class FeedForward, class Attention = GroupedQueryAttention>
struct PostNormBlock {
  Attention self_attn;
  Norm post_attention_layernorm, post_feedforward_layernorm;
  FeedForward mlp;

  PostNormBlock(const ModelConfig& c, int64_t layer)
      : self_attn(c, layer), post_attention_layernorm(c), post_feedforward_layernorm(c), mlp(c) {}

  Tensor operator()(const Tensor& input, const Batch& batch) const {  // (N, C) -> (N, C)
    const TapScope scope("layers", self_attn.layer);
    Tensor y = tap("self_attn", self_attn(input, batch));                                            // (N, C)
    const Tensor x = add(input, tap("post_attention_layernorm", post_attention_layernorm(y)));       // (N, C)
    y = tap("mlp", mlp(x));                                                                          // (N, C)
    return tap("output", add(x, tap("post_feedforward_layernorm", post_feedforward_layernorm(y))));  // (N, C)
  }

  void visit(Visitor& v) {
    v("self_attn", self_attn);
    v("post_attention_layernorm", post_attention_layernorm);
    v("mlp", mlp);
    v("post_feedforward_layernorm", post_feedforward_layernorm);
  }
};

}  // namespace lathe
