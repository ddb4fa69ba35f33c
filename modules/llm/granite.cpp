// Granite 3: Granite Team, IBM 2024, section 3.
//
// Llama with four numbers that a larger model's settings are carried over by (maximal update parametrisation, Yang et
// al. 2022): embeddings are multiplied by embedding_multiplier, what attention and net add to the stream by
// residual_multiplier, scores by attention_multiplier in place of 1 / sqrt(D), and logits are divided by
// logits_scaling.
#include <nlohmann/json.hpp>

#include "attention/grouped_query_attention.h"
#include "common/feed_forward_net.h"
#include "common/norm.h"
#include "config/config_export.h"
#include "config/family_keys.h"
#include "formats/gguf.h"
#include "llm/decoder.h"
#include "llm/families.h"

namespace lathe {
namespace {

struct GraniteBlock {
  RmsNorm input_layernorm, post_attention_layernorm;
  GroupedQueryAttention self_attn;
  GatedFeedForwardNet mlp;
  double residual_scale;

  GraniteBlock(const ModelConfig& c, int64_t layer)
      : input_layernorm(c),
        post_attention_layernorm(c),
        self_attn(c, layer),
        mlp(c),
        residual_scale(c.residual_scale) {}

  Tensor operator()(const Tensor& input, const Batch& batch) const {  // (N, C) -> (N, C)
    const TapScope scope("layers", self_attn.layer);
    const Tensor normal = tap("input_layernorm", input_layernorm(input));  // (N, C)
    Tensor y = tap("self_attn", self_attn(normal, batch));                 // (N, C)
    const auto [x, n] =
        post_attention_layernorm.add_norm(input, scale(y, residual_scale));  // (N, C): sum, and its norm
    y = tap("mlp", mlp(tap("post_attention_layernorm", n)));                 // (N, C)
    return tap("output", add(x, scale(y, residual_scale)));                  // (N, C)
  }

  void visit(Visitor& v) {
    v("input_layernorm", input_layernorm);
    v("self_attn", self_attn);
    v("post_attention_layernorm", post_attention_layernorm);
    v("mlp", mlp);
  }
};

using Granite = Decoder<GraniteBlock, RmsNorm>;

void read_granite_gguf(ModelConfig& c, const GgufFile& file) {
  read_decimal(file, "granite.embedding_scale", c.embedding_scale);
  read_decimal(file, "granite.residual_scale", c.residual_scale);
  read_decimal(file, "granite.attention.scale", c.attention_scale);
  read_decimal(file, "granite.logit_scale", c.logit_divisor);
}

void write_granite_gguf(const ModelConfig& c, GgufKeys& keys) {
  keys.set("embedding_scale", c.embedding_scale);
  keys.set("residual_scale", c.residual_scale);
  keys.set("attention.scale", c.attention_scale);
  keys.set("logit_scale", c.logit_divisor);
}

}  // namespace

Family granite_family() {
  Family f;
  f.name = "granite";
  f.architectures = {"GraniteForCausalLM"};
  f.model_types = {"granite"};
  f.variants = {"Granite 3.0", "Granite 3.1", "Granite 3.2", "Granite 3.3"};
  f.capabilities = {"completion", "chat"};
  const auto both = [](const std::string& version) {
    const std::string repository = "ibm-granite/granite-" + version + "-{size}-";
    return std::vector<PublishedVariant>{{"instruct", repository + "instruct"}, {"base", repository + "base"}};
  };
  f.published = {{"granite3", {"2b", "8b"}, both("3.0")},
                 {"granite3.1", {"2b", "8b"}, both("3.1")},
                 {"granite3.2", {"2b", "8b"}, {{"instruct", "ibm-granite/granite-3.2-{size}-instruct"}}},
                 {"granite3.3", {"2b", "8b"}, both("3.3")}};
  f.defaults = llama_defaults(2048);
  f.defaults.attention_scale = 1.0;
  f.defaults.bos_token_id = 1;
  f.defaults.eos_token_ids = {2};
  f.json_keys = with_llama({attention_bias_key(),
                            {"mlp_bias", &ModelConfig::mlp_bias},
                            {"embedding_multiplier", &ModelConfig::embedding_scale},
                            {"residual_multiplier", &ModelConfig::residual_scale},
                            {"attention_multiplier", &ModelConfig::attention_scale},
                            {"logits_scaling", &ModelConfig::logit_divisor}});
  f.read_gguf = read_granite_gguf;
  f.write_gguf = write_granite_gguf;
  f.make = make_model<Granite>;
  f.weight_mapping = llama_weight_mapping;
  return f;
}

}  // namespace lathe
