// Qwen, the first generation: Bai et al. 2023, sections 2.3 and 3.1.
//
// Llama with biases on q, k and v, which are one matrix, and a config whose intermediate_size counts both halves of the
// gated net. Unusual: behind the trained context queries are multiplied by the logarithm of their position to its base
// (log-n attention, Su 2021), and the rotary base grows in steps (RopeScaling::qwen). Files call the gate w2.
#include <algorithm>
#include <cmath>

#include "block/pre_norm_block.h"
#include "common/feed_forward_net.h"
#include "common/norm.h"
#include "config/model_config.h"
#include "llm/decoder.h"
#include "llm/families.h"
#include "llm/gguf_names.h"

namespace lathe {
namespace {

struct QwenAttention : GroupedQueryAttention {
  int64_t trained = 0;  // tokens; 0: queries stay as they are

  QwenAttention(const ModelConfig& c, int64_t layer)
      : GroupedQueryAttention(c, layer), trained(c.use_logn_attention ? c.rope_original_max_position : 0) {}

  Tensor operator()(const Tensor& x, const Batch& batch) const {  // (N, C) -> (N, C)
    const TapScope scope("self_attn");
    auto [q, k, v] = project(x);
    if (trained > 0) q = scale_rows(q, position_factors(batch, q.dtype()));  // (N, Hq D)
    return attend_and_merge(q, k, v, batch);
  }

  // log(position) / log(trained), positions counted from 1; 1 within the trained context.
  Tensor position_factors(const Batch& batch, DType dtype) const {
    const int64_t n = batch.tokens_count();
    Tensor factors = Tensor::empty({n}, dtype);  // (N)
    for (int64_t i = 0; i < n; ++i) {
      const double position = batch.positions.data<int32_t>()[i] + 1.0;
      const double factor = std::max(1.0, std::log(position) / std::log(static_cast<double>(trained)));
      if (dtype == DType::f64)
        factors.data<double>()[i] = factor;
      else
        factors.data<float>()[i] = static_cast<float>(factor);
    }
    return factors;
  }
};

}  // namespace

std::unique_ptr<CausalLM> make_qwen1(const ModelConfig& config) {
  return std::make_unique<Decoder<PreNormBlock<RmsNorm, GatedFeedForwardNet, QwenAttention>, RmsNorm>>(config);
}

WeightMapping qwen1_weight_mapping(const ModelConfig&, CheckpointFormat format) {
  if (format == CheckpointFormat::gguf) {
    WeightMapping m = gguf_mapping_of_fused();
    rename_in_layers(m, "attn_norm", "input_layernorm");
    return rename_in_layers(m, "ffn_norm", "post_attention_layernorm");
  }
  const std::string prefix = "transformer.", block = prefix + "h.{}.", layer = "model.layers.{}.";
  WeightMapping m;
  m.base_prefix = prefix;
  for (const std::string kind : {".weight", ".bias"})
    m.split(block + "attn.c_attn" + kind,
            {layer + "self_attn.q_proj" + kind, layer + "self_attn.k_proj" + kind, layer + "self_attn.v_proj" + kind});
  return m.rename(block + "attn.c_proj.weight", layer + "self_attn.o_proj.weight")
      .rename(block + "mlp.w2.weight", layer + "mlp.gate_proj.weight")
      .rename(block + "mlp.w1.weight", layer + "mlp.up_proj.weight")
      .rename(block + "mlp.c_proj.weight", layer + "mlp.down_proj.weight")
      .rename(block + "ln_1.weight", layer + "input_layernorm.weight")
      .rename(block + "ln_2.weight", layer + "post_attention_layernorm.weight")
      .rename(prefix + "ln_f.weight", "model.norm.weight")
      .rename(prefix + "wte.weight", "model.embed_tokens.weight")
      .skip(prefix + "rotary_emb.inv_freq")
      .skip(block + "attn.masked_bias");
}

}  // namespace lathe
