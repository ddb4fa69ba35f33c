// GPT-2: Radford et al. 2019, section 2.3.
//
// Pre-norm blocks with LayerNorm and biases everywhere, learned positions, multi-head attention, a GELU (tanh form)
// net, the head tied to the embedding. Unusual: published weights of linear layers are stored (in, out), "Conv1D", with
// q, k and v fused; weight_mapping turns and splits them.
#include "block/pre_norm_block.h"
#include "common/embedding.h"
#include "common/feed_forward_net.h"
#include "common/norm.h"
#include "llm/families.h"
#include "llm/gguf_names.h"
#include "tensor/interruption.h"

namespace lathe {
namespace {

class Gpt2 final : public CausalLM {
 public:
  explicit Gpt2(const ModelConfig& c)
      : CausalLM(c),
        embed_tokens_(sizes.vocab_size, sizes.hidden_size),
        embed_positions_(sizes.max_position_embeddings, sizes.hidden_size),
        norm_(c) {
    for (int64_t layer = 0; layer < sizes.num_hidden_layers; ++layer) layers_.emplace_back(c, layer);
    if (!sizes.tie_word_embeddings) lm_head_.emplace(sizes.hidden_size, sizes.vocab_size, false);
  }

  Tensor hidden(const Batch& batch) const override {
    const TapScope scope("model");
    Tensor x = add(embed_tokens_(batch.tokens), embed_positions_(batch.positions));  // (N, C)
    tap("embed_tokens", x);
    for (const auto& layer : layers_) {
      Interruption::point();
      x = layer(x, batch);  // (N, C)
    }
    x = norm_(x);  // (N, C)
    tap("norm", x);
    return x;
  }

  Head head() const override { return {.weight = lm_head_ ? &lm_head_->weight : &embed_tokens_.weight}; }

  void visit(Visitor& v) override {
    v("model.embed_tokens", embed_tokens_);
    v("model.embed_positions", embed_positions_);
    v("model.layers", layers_);
    v("model.norm", norm_);
    if (lm_head_) v("lm_head", *lm_head_);
  }

 private:
  Embedding embed_tokens_, embed_positions_;
  std::vector<PreNormBlock<LayerNorm, FeedForwardNet>> layers_;
  LayerNorm norm_;
  std::optional<Linear> lm_head_;
};

// Published files lack the prefix that transformers writes today.
WeightMapping gpt2_hugging_face_mapping() {
  const std::string prefix = "transformer.";
  WeightMapping m;
  m.base_prefix = prefix;
  for (const std::string kind : {"weight", "bias"}) {
    const std::string block = prefix + "h.{}.", layer = "model.layers.{}.";
    const auto linear = [&](const std::string& source, std::vector<std::string> targets) {
      for (std::string& t : targets) t = layer + t + "." + kind;
      m.split(block + source + "." + kind, targets);
      if (kind == "weight") m.transposed();
    };
    linear("attn.c_attn", {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"});
    linear("attn.c_proj", {"self_attn.o_proj"});
    linear("mlp.c_fc", {"mlp.up_proj"});
    linear("mlp.c_proj", {"mlp.down_proj"});
    m.rename(block + "ln_1." + kind, layer + "input_layernorm." + kind);
    m.rename(block + "ln_2." + kind, layer + "post_attention_layernorm." + kind);
    m.rename(prefix + "ln_f." + kind, "model.norm." + kind);
  }
  return m.rename(prefix + "wte.weight", "model.embed_tokens.weight")
      .rename(prefix + "wpe.weight", "model.embed_positions.weight")
      .skip(prefix + "h.{}.attn.bias")
      .skip(prefix + "h.{}.attn.masked_bias");
}

}  // namespace

std::unique_ptr<CausalLM> make_gpt2(const ModelConfig& config) { return std::make_unique<Gpt2>(config); }

WeightMapping gpt2_weight_mapping(const ModelConfig&, CheckpointFormat format) {
  if (format == CheckpointFormat::hugging_face) return gpt2_hugging_face_mapping();
  WeightMapping m = gguf_mapping_of_fused();
  rename_in_layers(m, "attn_norm", "input_layernorm");
  rename_in_layers(m, "ffn_norm", "post_attention_layernorm");
  return m.rename("position_embd.weight", "model.embed_positions.weight");
}

}  // namespace lathe
