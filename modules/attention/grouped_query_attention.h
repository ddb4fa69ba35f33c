// Grouped-query attention (Ainslie et al. 2023); multi-head (Hk = Hq) and multi-query (Hk = 1) are its two ends.
//
// A family whose attention does more to queries, keys or values than this derives from it and puts its steps between
// `project` and `attend_and_project`.
#pragma once
#include "attention/batch.h"
#include "common/linear.h"
#include "common/norm.h"
#include "common/observer.h"
#include "config/model_sizes.h"

namespace lathe {

struct GroupedQueryAttention {
  static constexpr ModelPart kPart = ModelPart::attention;
  PackedLinear<3> qkv;                    // (Hq D, C), (Hk D, C), (Hk D, C)
  Linear o_proj;                          // (C, Hq D)
  std::optional<RmsNorm> q_norm, k_norm;  // (D), over each head, where the config has qk_norm (Qwen3, Gemma 3)
  int64_t heads = 0, kv_heads = 0, head_dim = 0, layer = 0;
  bool rotary = false;
  size_t rope_kind = 0;              // which of the batch's angles
  mutable AttentionOptions options;  // mutable: slopes move to the device of the first activations that come from one

  GroupedQueryAttention() = default;
  GroupedQueryAttention(const ModelConfig& config, int64_t layer);
  void use_alibi(const std::vector<float>& slopes);  // (Hq)

  Tensor operator()(const Tensor& x, const Batch& batch) const {  // (N, C) -> (N, C)
    const TapScope scope("self_attn");
    const auto [q, k, v] = project(x);
    return attend_and_project(q, k, v, batch);
  }

  std::array<Tensor, 3> project(const Tensor& x) const { return qkv(x); }  // (N, C) -> (N, Hq D), (N, Hk D), (N, Hk D)
  // Rotates, attends and multiplies by o_proj: -> (N, C).
  Tensor attend_and_project(const Tensor& q, const Tensor& k, const Tensor& v, const Batch& batch) const;

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
