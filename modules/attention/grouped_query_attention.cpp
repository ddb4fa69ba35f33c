#include "attention/grouped_query_attention.h"

#include <cmath>

#include "attention/attend.h"
#include "common/observer.h"

namespace lathe {

GroupedQueryAttention::GroupedQueryAttention(const ModelConfig& c, int64_t layer)
    : qkv{{Linear(c.hidden_size, c.num_attention_heads * c.head_dim, c.attention_bias),
           Linear(c.hidden_size, c.num_key_value_heads * c.head_dim, c.attention_bias),
           Linear(c.hidden_size, c.num_key_value_heads * c.head_dim, c.attention_bias)}},
      o_proj(c.num_attention_heads * c.head_dim, c.hidden_size, c.attention_output_bias),
      heads(c.num_attention_heads),
      kv_heads(c.num_key_value_heads),
      head_dim(c.head_dim),
      layer(layer),
      rotary(c.uses_rope()) {
  options.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(c.head_dim)));
  options.window = c.window(layer);
  if (!c.qk_norm) return;
  q_norm.emplace(head_dim, c.norm_eps);
  k_norm.emplace(head_dim, c.norm_eps);
}

Tensor GroupedQueryAttention::operator()(const Tensor& x, const Batch& batch) const {  // (N, C)
  const TapScope scope("self_attn");
  const int64_t n = x.dim(0);
  auto [q, k, v] = qkv(x);
  q = q.view({n, heads, head_dim});     // (N, Hq, D)
  k = k.view({n, kv_heads, head_dim});  // (N, Hk, D)
  v = v.view({n, kv_heads, head_dim});  // (N, Hk, D)
  tap("q", q);
  tap("k", k);
  tap("v", v);
  const HeadSteps steps{.q_norm = q_norm ? &*q_norm : nullptr,
                        .k_norm = k_norm ? &*k_norm : nullptr,
                        .rope = rotary ? &batch.rope[0] : nullptr};
  const Tensor heads_out = attend(q, k, v, steps, batch, layer, options);  // (N, Hq, D)
  tap("heads", heads_out);
  return o_proj(heads_out.view({n, heads * head_dim}));
}

}  // namespace lathe
