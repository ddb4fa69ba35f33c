// The parallel block: x + attention(norm(x)) + feed_forward(norm'(x)), where norm' is a norm of its own (GPT-NeoX,
// Falcon 40B) or the same one (Falcon 7B). Wang and Komatsuzaki 2021 (GPT-J); Black et al. 2022, section 2.1.
#pragma once
#include "attention/grouped_query_attention.h"
#include "config/model_config.h"

namespace lathe {

template <class Norm, class FeedForward, class Attention = GroupedQueryAttention>
struct ParallelBlock {
  Norm input_layernorm;
  std::optional<Norm> post_attention_layernorm;  // of the feed-forward net: the name is what serial blocks call it
  Attention self_attn;
  FeedForward mlp;

  ParallelBlock(const ModelConfig& c, int64_t layer) : input_layernorm(c), self_attn(c, layer), mlp(c) {
    if (!c.shared_parallel_norm) post_attention_layernorm.emplace(c);
  }

  Tensor operator()(const Tensor& input, const Batch& batch) const {  // (N, C) -> (N, C)
    const TapScope scope("layers", self_attn.layer);
    const Tensor normal = tap("input_layernorm", input_layernorm(input));  // (N, C)
    const Tensor n = tap("post_attention_layernorm",
                         post_attention_layernorm ? (*post_attention_layernorm)(input) : normal);  // (N, C)
    const Tensor attended = tap("self_attn", self_attn(normal, batch));                            // (N, C)
    const Tensor y = tap("mlp", mlp(n));                                                           // (N, C)
    return tap("output", add(add(y, attended), input));                                            // (N, C)
  }

  void visit(Visitor& v) {
    v("input_layernorm", input_layernorm);
    if (post_attention_layernorm) v("post_attention_layernorm", *post_attention_layernorm);
    v("self_attn", self_attn);
    v("mlp", mlp);
  }
};

}  // namespace lathe
