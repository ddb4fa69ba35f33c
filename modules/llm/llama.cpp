// Llama 2, 3, 3.x and Code Llama, and what shares their architecture (SmolLM2, TinyLlama).
//
// Touvron et al. 2023 (Llama 2, section 2.2); Grattafiori et al. 2024 (Llama 3, section 3.2).
// Pre-norm blocks with RMSNorm, rotary positions on half-split pairs, grouped-query attention and a SwiGLU net.
// Unusual: nothing. Every other family is described by its difference from this one.
#include "block/pre_norm_block.h"
#include "common/embedding.h"
#include "common/feed_forward_net.h"
#include "common/norm.h"
#include "llm/families.h"

namespace lathe {
namespace {

class Llama final : public CausalLM {
 public:
  explicit Llama(const ModelConfig& c)
      : CausalLM(c), embed_tokens_(c.vocab_size, c.hidden_size), norm_(c.hidden_size, c.norm_eps) {
    for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) layers_.emplace_back(c, layer);
    if (!c.tie_word_embeddings) lm_head_.emplace(c.hidden_size, c.vocab_size, false);
  }

  Tensor hidden(const Batch& batch) const override {
    const TapScope scope("model");
    Tensor x = embed_tokens_(batch.tokens);  // (N, C)
    tap("embed_tokens", x);
    for (const auto& layer : layers_) x = layer(x, batch);  // (N, C)
    x = norm_(x);                                           // (N, C)
    tap("norm", x);
    return x;
  }

  Head head() const override { return {.weight = lm_head_ ? &lm_head_->weight : &embed_tokens_.weight}; }

  void visit(Visitor& v) override {
    v("model.embed_tokens", embed_tokens_);
    v("model.layers", layers_);
    v("model.norm", norm_);
    if (lm_head_) v("lm_head", *lm_head_);
  }

 private:
  Embedding embed_tokens_;
  std::vector<PreNormBlock<RmsNorm, GatedFeedForwardNet>> layers_;
  RmsNorm norm_;
  std::optional<Linear> lm_head_;
};

}  // namespace

std::unique_ptr<CausalLM> make_llama(const ModelConfig& config) { return std::make_unique<Llama>(config); }

// Hugging Face names are the model's own. GGUF stores the rows of q and k so that rotated pairs are neighbours.
WeightMapping llama_weight_mapping(const ModelConfig& config, CheckpointFormat format) {
  WeightMapping m;
  if (format == CheckpointFormat::hugging_face) {
    m.base_prefix = "model.";
    return m.skip("model.layers.{}.self_attn.rotary_emb.inv_freq");
  }
  for (const char* kind : {"weight", "bias"}) {
    const auto block = [&](const std::string& source, const std::string& target) -> WeightMapping& {
      return m.rename("blk.{}." + source + "." + kind, "model.layers.{}." + target + "." + kind);
    };
    block("attn_q", "self_attn.q_proj").rows(interleaved_rope_rows(config.head_dim));
    block("attn_k", "self_attn.k_proj").rows(interleaved_rope_rows(config.head_dim));
    block("attn_v", "self_attn.v_proj");
    block("attn_output", "self_attn.o_proj");
    block("ffn_gate", "mlp.gate_proj");
    block("ffn_up", "mlp.up_proj");
    block("ffn_down", "mlp.down_proj");
    block("attn_norm", "input_layernorm");
    block("ffn_norm", "post_attention_layernorm");
  }
  return m.rename("token_embd.weight", "model.embed_tokens.weight")
      .rename("output_norm.weight", "model.norm.weight")
      .rename("output.weight", "lm_head.weight")
      .skip("rope_freqs.weight");
}

}  // namespace lathe
