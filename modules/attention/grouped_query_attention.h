// Grouped-query attention (Ainslie et al. 2023); multi-head (Hk = Hq) and multi-query (Hk = 1) are its two ends.
#pragma once
#include "attention/batch.h"
#include "common/linear.h"
#include "common/norm.h"
#include "config/model_config.h"

namespace lathe {

struct GroupedQueryAttention {
  PackedLinear<3> qkv;                    // (Hq D, C), (Hk D, C), (Hk D, C)
  Linear o_proj;                          // (C, Hq D)
  std::optional<RmsNorm> q_norm, k_norm;  // (D), over each head, where the config has qk_norm (Qwen3)
  int64_t heads = 0, kv_heads = 0, head_dim = 0, layer = 0;
  bool rotary = false;
  AttentionOptions options;

  GroupedQueryAttention() = default;
  GroupedQueryAttention(const ModelConfig& config, int64_t layer);

  Tensor operator()(const Tensor& x, const Batch& batch) const;  // (N, C) -> (N, C)

  void visit(Visitor& v) {
    v("q_proj", qkv[0]);
    v("k_proj", qkv[1]);
    v("v_proj", qkv[2]);
    v("o_proj", o_proj);
    if (q_norm) v("q_norm", *q_norm);
    if (k_norm) v("k_norm", *k_norm);
  }
};

}  // namespace lathe
