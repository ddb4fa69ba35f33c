// GPT-2: Radford et al. 2019, section 2.3.
//
// Pre-norm blocks with LayerNorm and biases everywhere, learned positions, multi-head attention, a GELU (tanh form)
// net, the head tied to the embedding. Unusual: published weights of linear layers are stored (in, out), "Conv1D", with
// q, k and v fused; weight_mapping turns and splits them.
#include "block/pre_norm_block.h"
#include "block/run_block.h"
#include "common/embedding.h"
#include "common/feed_forward_net.h"
#include "common/norm.h"
#include "config/family_keys.h"
#include "llm/families.h"
#include "llm/gguf_names.h"

namespace lathe {
namespace {

class Gpt2 final : public CausalLM {
 public:
  explicit Gpt2(const ModelConfig& c)
      : CausalLM(c),
        embed_tokens_(sizes.vocab_size, sizes.hidden_size),
        embed_positions_(sizes.max_position_embeddings, sizes.hidden_size, Parameter::Kind::position),
        norm_(c) {
    for (int64_t layer = 0; layer < sizes.num_hidden_layers; ++layer) layers_.emplace_back(c, layer);
    if (!sizes.tie_word_embeddings) lm_head_.emplace(sizes.hidden_size, sizes.vocab_size, false, Parameter::Kind::head);
  }

  Tensor hidden(const Batch& batch) const override {
    const TapScope scope("model");
    Tensor x = add(embed_tokens_(batch.tokens), embed_positions_(batch.positions));  // (N, C)
    tap("embed_tokens", x);
    x = dropout(x);
    for (size_t i = 0; i < layers_.size(); ++i) x = run_block(layers_[i], static_cast<int64_t>(i), x, batch);  // (N, C)
    return final_norm(x);
  }

  Tensor final_norm(const Tensor& x) const override { return tap("norm", norm_(x)); }

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

WeightMapping gpt2_weight_mapping(const ModelConfig&, CheckpointFormat format) {
  if (format == CheckpointFormat::hugging_face) return gpt2_hugging_face_mapping();
  WeightMapping m = gguf_mapping_of_fused();
  rename_in_layers(m, "attn_norm", "input_layernorm");
  rename_in_layers(m, "ffn_norm", "post_attention_layernorm");
  return m.rename("position_embd.weight", "model.embed_positions.weight");
}

using M = ModelConfig;

std::vector<JsonKey> gpt2_keys() {
  return with_common({
      // Of the first files; where n_positions is, it decides.
      {"n_ctx", [](M& c, const JsonValue& v) { c.max_position_embeddings = v.integer(); }},
      // As other families spell them, which transformers takes too.
      {"hidden_size", &M::hidden_size},
      {"num_hidden_layers", &M::num_hidden_layers},
      {"num_attention_heads", &M::num_attention_heads},
      {"max_position_embeddings", &M::max_position_embeddings},
      {"n_embd", &M::hidden_size, true},
      {"n_inner", &M::intermediate_size},
      {"n_layer", &M::num_hidden_layers, true},
      {"n_head", &M::num_attention_heads, true},
      {"n_positions", &M::max_position_embeddings},
      {"activation_function", set_activation},
      {"layer_norm_epsilon", &M::norm_eps},
      {"scale_attn_weights", OnlyValue{true}},
      {"scale_attn_by_inverse_layer_idx", OnlyValue{false}},
      {"add_cross_attention", OnlyValue{false}},
  });
}

}  // namespace

Family gpt2_family() {
  Family f;
  f.name = "gpt2";
  f.architectures = {"GPT2LMHeadModel", "GPT2Model"};  // the latter: files of the bare model, headless
  f.model_types = {"gpt2"};
  f.variants = {"GPT-2"};
  f.capabilities = {"completion"};
  f.published = {{"gpt2", {"124M"}, {{"base", "openai-community/gpt2"}}},
                 {"gpt2", {"355M"}, {{"base", "openai-community/gpt2-medium"}}},
                 {"gpt2", {"774M"}, {{"base", "openai-community/gpt2-large"}}},
                 {"gpt2", {"1558M"}, {{"base", "openai-community/gpt2-xl"}}}};
  ModelConfig& d = f.defaults;
  d.hidden_act = "gelu_new";
  d.norm_eps = 1e-5;
  d.max_position_embeddings = 1024;
  d.tie_word_embeddings = true;
  d.attention_bias = d.attention_output_bias = d.mlp_bias = true;
  d.bos_token_id = 50256;
  d.eos_token_ids = {50256};
  f.net_width = 4;
  f.json_keys = gpt2_keys();
  f.make = make_model<Gpt2>;
  f.weight_mapping = gpt2_weight_mapping;
  return f;
}

}  // namespace lathe
