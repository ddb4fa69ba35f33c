// The pre-norm block: x + attention(norm(x)), then x + feed_forward(norm(x)). Xiong et al. 2020, section 3.
#pragma once
#include "attention/grouped_query_attention.h"
#include "common/observer.h"

namespace lathe {

template <class Norm, class FeedForward, class Attention = GroupedQueryAttention>
struct PreNormBlock {
  Norm input_layernorm, post_attention_layernorm;
  Attention self_attn;
  FeedForward mlp;

  PreNormBlock(const ModelConfig& c, int64_t layer)
      : input_layernorm(c), post_attention_layernorm(c), self_attn(c, layer), mlp(feed_forward(c, layer)) {}

  Tensor operator()(const Tensor& input, const Batch& batch) const {  // (N, C) -> (N, C)
    const TapScope scope("layers", self_attn.layer);
    const Tensor normal = tap("input_layernorm", input_layernorm(input));    // (N, C)
    const Tensor attended = tap("self_attn", self_attn(normal, batch));      // (N, C)
    const auto [x, n] = post_attention_layernorm.add_norm(input, attended);  // (N, C): input + attended, and its norm
    const Tensor y = tap("mlp", mlp(tap("post_attention_layernorm", n)));    // (N, C)
    return tap("output", add(x, y));                                         // (N, C)
  }

  // Nets that differ from layer to layer (mixtures) need the layer's index.
  static FeedForward feed_forward(const ModelConfig& c, int64_t layer) {
    if constexpr (std::is_constructible_v<FeedForward, const ModelConfig&, int64_t>)
      return FeedForward(c, layer);
    else
      return FeedForward(c);
  }

  void visit(Visitor& v) {
    v("input_layernorm", input_layernorm);
    v("self_attn", self_attn);
    v("post_attention_layernorm", post_attention_layernorm);
    v("mlp", mlp);
  }
};

}  // namespace lathe
