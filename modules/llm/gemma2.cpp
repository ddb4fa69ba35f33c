// Gemma 2: Gemma Team 2024 (Gemma 2), section 2.
//
// RMSNorm before and after attention and feed-forward net; a gated GELU (tanh) net. Unusual: scores and logits pass
// through soft caps, c tanh(s / c); every second layer, beginning with the first, sees a window of keys; embeddings are
// multiplied by sqrt(C); scores are divided by sqrt(query_pre_attn_scalar), not always sqrt(D); Hugging Face files hold
// norm weights minus one (norm_offset), GGUF files hold them whole.
#include <cmath>
#include <nlohmann/json.hpp>

#include "block/sandwich_norm_block.h"
#include "common/feed_forward_net.h"
#include "common/norm.h"
#include "config/config_export.h"
#include "config/family_keys.h"
#include "formats/gguf.h"
#include "llm/decoder.h"
#include "llm/families.h"

namespace lathe {
namespace {

using Gemma2 = Decoder<SandwichNormBlock<RmsNorm, GatedFeedForwardNet>, RmsNorm>;

void set_gemma2_windows(ModelConfig& c, int64_t window) {
  set_windows(c, window, [](int64_t layer) { return layer % 2 == 0; });
}

void read_gemma2(ModelConfig& c, const nlohmann::json& root) {
  const int64_t window = read_window(c, root, "sliding_window", 4096);
  if (!read_layer_types(c, root, window)) set_gemma2_windows(c, window);
  read_gemma_net(c, root);
}

void write_gemma2(const ModelConfig& c, nlohmann::ordered_json& root) {
  write_query_scalar(c, root);
  if (c.attention_softcap == 0.0) root["attn_logit_softcapping"] = nullptr;  // where a key is missing, there is a cap
  if (c.final_logit_softcap == 0.0) root["final_logit_softcapping"] = nullptr;
  write_window(c, root);
  write_layer_types(c, root);
}

// Which layers have the window is not said; for 27B alone, what scores are divided by follows from the number of
// layers.
void read_gemma2_gguf(ModelConfig& c, const GgufFile& file) {
  set_gemma2_windows(c, file.get<int64_t>("gemma2.attention.sliding_window").value_or(4096));
  if (const auto cap = file.get<double>("gemma2.attn_logit_softcapping")) c.attention_softcap = *cap;
  if (const auto cap = file.get<double>("gemma2.final_logit_softcapping")) c.final_logit_softcap = *cap;
  read_gemma_scales(c, 46);
}

// llama.cpp always caps, and asks for no list of windows: a model without the one or with another order of layers
// cannot be said.
void write_gemma2_gguf(const ModelConfig& c, GgufKeys& keys) {
  if (c.attention_softcap > 0.0) keys.set("attn_logit_softcapping", c.attention_softcap);
  if (c.final_logit_softcap > 0.0) keys.set("final_logit_softcapping", c.final_logit_softcap);
  keys.erase("attention.sliding_window_pattern");
}

}  // namespace

void read_gemma_net(ModelConfig& c, const nlohmann::json& root) {
  const auto has = [&](const char* key) { return root.contains(key) && !root.at(key).is_null(); };
  c.embedding_scale = std::sqrt(static_cast<double>(c.hidden_size));
  if (!has("hidden_activation") && has("hidden_act") && c.hidden_act != "gelu_pytorch_tanh")
    JsonValue(root.at("hidden_act"), c.source, "hidden_act").fail("gelu_pytorch_tanh, or the name hidden_activation");
}

void read_gemma_scales(ModelConfig& c, int64_t layers_of_27b) {
  const double heads = static_cast<double>(c.num_attention_heads), width = static_cast<double>(c.hidden_size);
  c.attention_scale = c.num_hidden_layers == layers_of_27b ? std::sqrt(heads / width) : 0.0;
  c.norm_offset = 0.0;
  c.embedding_scale = std::sqrt(width);
}

Family gemma2_family() {
  Family f;
  f.name = "gemma2";
  f.architectures = {"Gemma2ForCausalLM"};
  f.model_types = {"gemma2"};
  f.variants = {"Gemma 2"};
  f.capabilities = {"completion", "chat"};
  f.published = {
      {"gemma2", {"2b", "9b", "27b"}, {{"instruct", "google/gemma-2-{size}-it"}, {"base", "google/gemma-2-{size}"}}}};
  f.defaults = llama_defaults(8192);
  ModelConfig& d = f.defaults;
  d.hidden_act = "gelu_pytorch_tanh";
  d.norm_offset = 1.0;
  d.num_key_value_heads = 4;
  d.head_dim = 256;
  d.attention_scale = 1.0 / 16.0;
  d.attention_softcap = 50.0;
  d.final_logit_softcap = 30.0;
  d.tie_word_embeddings = true;
  d.bos_token_id = 2;
  d.eos_token_ids = {1};
  d.pad_token_id = 0;
  f.json_keys = with_llama({
      {"hidden_activation", set_activation},
      attention_bias_key(),
      query_scalar_key(),
      {"attn_logit_softcapping", &ModelConfig::attention_softcap, false,
       [](ModelConfig& c) { c.attention_softcap = 0; }},
      {"final_logit_softcapping", &ModelConfig::final_logit_softcap, false,
       [](ModelConfig& c) { c.final_logit_softcap = 0; }},
      {"use_bidirectional_attention", OnlyValue{false}},
      {"sliding_window", ReadElsewhere{}},
      {"layer_types", ReadElsewhere{}},
  });
  f.read_together = read_gemma2;
  f.write_together = write_gemma2;
  f.read_gguf = read_gemma2_gguf;
  f.write_gguf = write_gemma2_gguf;
  f.make = make_model<Gemma2>;
  f.weight_mapping = gemma3_weight_mapping;
  return f;
}

}  // namespace lathe
