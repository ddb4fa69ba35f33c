#include "attention/grouped_query_attention.h"

#include <cmath>

#include "attention/alibi.h"
#include "attention/attend.h"
#include "common/dropout.h"
#include "config/model_config.h"

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
      rotary(c.uses_rope()),
      rope_kind(c.rope_kind(layer)) {
  const double scale = c.attention_scale > 0.0 ? c.attention_scale : 1.0 / std::sqrt(static_cast<double>(c.head_dim));
  options.scale = static_cast<float>(scale);
  options.softcap = static_cast<float>(c.attention_softcap);
  options.window = c.window(layer);
  if (c.alibi) use_alibi(alibi_slopes(c, c.alibi_bias_max));
  if (!c.qk_norm) return;
  q_norm.emplace(c, head_dim);
  k_norm.emplace(c, head_dim);
}

void GroupedQueryAttention::use_alibi(const std::vector<float>& slopes) {
  options.alibi_slopes = Tensor::of<float>({std::ssize(slopes)}, slopes.data());
}

Tensor GroupedQueryAttention::attend_and_project(const Tensor& q_, const Tensor& k_, const Tensor& v_,
                                                 const Batch& batch) const {
  const int64_t n = q_.dim(0);
  const Tensor q = q_.view({n, heads, head_dim});     // (N, Hq, D)
  const Tensor k = k_.view({n, kv_heads, head_dim});  // (N, Hk, D)
  const Tensor v = v_.view({n, kv_heads, head_dim});  // (N, Hk, D)
  tap("q", q);
  tap("k", k);
  tap("v", v);
  if (options.alibi_slopes.defined() && options.alibi_slopes.device() != q.device())
    options.alibi_slopes = options.alibi_slopes.to(q.device());
  const Tensor heads_out = attend(q, k, v, q_norm, k_norm, rotary ? &batch.rope[rope_kind] : nullptr, batch, layer,
                                  options);  // (N, Hq, D)
  tap("heads", heads_out);
  return dropout(o_proj(heads_out.view({n, heads * head_dim})));
}

}  // namespace lathe
