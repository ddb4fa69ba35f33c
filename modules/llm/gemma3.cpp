// Gemma 3, the text model: Gemma Team 2025, section 2.
//
// RMSNorm before and after attention and feed-forward net, and over each head of q and k; a gated GELU (tanh) net.
// Unusual: five layers in six see a window of keys and rotate with another base (rope_local_theta) than the sixth,
// which sees all and may be scaled; embeddings are multiplied by sqrt(C); scores are divided by
// sqrt(query_pre_attn_scalar), not always sqrt(D); Hugging Face files hold norm weights minus one (norm_offset), GGUF
// files hold them whole.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "block/sandwich_norm_block.h"
#include "common/feed_forward_net.h"
#include "common/norm.h"
#include "config/config_export.h"
#include "config/family_keys.h"
#include "formats/gguf.h"
#include "llm/decoder.h"
#include "llm/families.h"
#include "llm/gguf_names.h"

namespace lathe {
namespace {

using Gemma3 = Decoder<SandwichNormBlock<RmsNorm, GatedFeedForwardNet>, RmsNorm>;

// In all layers but every sixth, or another number.
void set_gemma3_windows(ModelConfig& c, int64_t window, int64_t pattern) {
  set_windows(c, window, [=](int64_t layer) { return (layer + 1) % pattern != 0; });
}

void read_gemma3(ModelConfig& c, const nlohmann::json& root) {
  const auto value = [&](const char* key) { return JsonValue(root.at(key), c.source, key); };
  const auto has = [&](const char* key) { return root.contains(key) && !root.at(key).is_null(); };
  const int64_t window = read_window(c, root, "sliding_window", 4096);
  if (window == 0) value("sliding_window").fail("a number of tokens");
  const int64_t pattern = has("sliding_window_pattern") ? value("sliding_window_pattern").integer() : 6;
  if (pattern < 1) value("sliding_window_pattern").fail("1 or more");
  if (!read_layer_types(c, root, window)) set_gemma3_windows(c, window, pattern);
  read_gemma_net(c, root);
}

void write_gemma3(const ModelConfig& c, nlohmann::ordered_json& root) {
  write_query_scalar(c, root);
  if (c.final_logit_softcap == 0.0) root["final_logit_softcapping"] = nullptr;  // the reference divides by a number
  write_window(c, root);
  write_layer_types(c, root);
}

constexpr int64_t kGemma3Period = 6;  // of the layers without a window, where a GGUF file does not say

void read_gemma3_gguf(ModelConfig& c, const GgufFile& file) {
  const bool says_period = file.metadata().contains("gemma3.attention.sliding_window_pattern");
  if (!says_period)
    set_gemma3_windows(c, file.get<int64_t>("gemma3.attention.sliding_window").value_or(0), kGemma3Period);
  if (const auto theta = file.get<double>("gemma3.rope.freq_base_swa")) c.rope_local_theta = *theta;
  if (const auto cap = file.get<double>("gemma3.final_logit_softcapping")) c.final_logit_softcap = *cap;
  read_gemma_scales(c, 62);
}

// llama.cpp asks for a period where the files of other families have a list. Another order of layers cannot be said.
void write_gemma3_gguf(const ModelConfig& c, GgufKeys& keys) {
  keys.set("rope.freq_base_swa", c.rope_local_theta);
  if (c.final_logit_softcap > 0) keys.set("final_logit_softcapping", c.final_logit_softcap);
  keys.erase("attention.sliding_window_pattern");
  const auto full = std::find(c.layer_window.begin(), c.layer_window.end(), 0);
  const int64_t period = full - c.layer_window.begin() + 1;
  if (full != c.layer_window.end() && period != kGemma3Period) keys.set("attention.sliding_window_pattern", period);
}

}  // namespace

// Hugging Face names are the model's own.
WeightMapping gemma3_weight_mapping(const ModelConfig&, CheckpointFormat format) {
  if (format == CheckpointFormat::hugging_face) {
    WeightMapping m;
    m.base_prefix = "model.";
    return m;
  }
  WeightMapping m = gguf_mapping();
  rename_in_layers(m, "attn_norm", "input_layernorm");
  rename_in_layers(m, "post_attention_norm", "post_attention_layernorm");
  rename_in_layers(m, "ffn_norm", "pre_feedforward_layernorm");
  return rename_in_layers(m, "post_ffw_norm", "post_feedforward_layernorm");
}

Family gemma3_family() {
  Family f;
  f.name = "gemma3";
  f.architectures = {"Gemma3ForCausalLM"};
  f.model_types = {"gemma3_text"};
  f.gguf_architecture = "gemma3";
  f.variants = {"Gemma 3"};
  f.capabilities = {"completion", "chat"};
  f.published = {{"gemma3", {"270m"}, {{"instruct", "google/gemma-3-{size}-it"}, {"base", "google/gemma-3-{size}"}}},
                 {"gemma3", {"1b"}, {{"instruct", "google/gemma-3-{size}-it"}, {"base", "google/gemma-3-{size}-pt"}}}};
  f.defaults = llama_defaults(131072);
  ModelConfig& d = f.defaults;
  d.hidden_act = "gelu_pytorch_tanh";
  d.norm_offset = 1.0;
  d.num_key_value_heads = 4;
  d.head_dim = 256;
  d.rope_theta = 1e6;
  d.rope_local_theta = 1e4;
  d.attention_scale = 1.0 / 16.0;
  d.qk_norm = d.tie_word_embeddings = true;
  d.bos_token_id = 2;
  d.eos_token_ids = {1};
  d.pad_token_id = 0;
  f.json_keys = with_llama({
      {"hidden_activation", set_activation},
      attention_bias_key(),
      query_scalar_key(),
      {"final_logit_softcapping", &ModelConfig::final_logit_softcap},
      {"attn_logit_softcapping", [](ModelConfig&, const JsonValue& v) { v.fail("null: nothing else is supported"); }},
      {"rope_local_base_freq", &ModelConfig::rope_local_theta},
      {"use_bidirectional_attention", OnlyValue{false}},
      {"sliding_window", ReadElsewhere{}},
      {"sliding_window_pattern", ReadElsewhere{}},
      {"layer_types", ReadElsewhere{}},
  });
  f.read_together = read_gemma3;
  f.read_gguf = read_gemma3_gguf;
  f.write_together = write_gemma3;
  f.write_gguf = write_gemma3_gguf;
  f.make = make_model<Gemma3>;
  f.weight_mapping = gemma3_weight_mapping;
  return f;
}

}  // namespace lathe
