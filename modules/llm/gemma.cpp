// Gemma, the first generation, and CodeGemma: Gemma Team 2024, section 2.
//
// Llama with heads of 256 whatever C / Hq is and a net gated by GELU (tanh form). Unusual: embeddings are multiplied by
// sqrt(C); Hugging Face files hold norm weights minus one (norm_offset), GGUF files hold them whole, and keep the
// half-split pairs of q and k where it makes neighbours of Llama's.
#include <cmath>
#include <nlohmann/json.hpp>

#include "config/family_keys.h"
#include "llm/families.h"

namespace lathe {
namespace {

// The first files say "gelu" and mean its tanh form, as their class computed it; hidden_activation, which some have
// besides, must say the same.
void set_gemma_activation(ModelConfig& c, const JsonValue& value) {
  set_activation(c, value);
  if (c.hidden_act == "gelu") c.hidden_act = "gelu_pytorch_tanh";
}

void read_gemma(ModelConfig& c, const nlohmann::json& root) {
  c.embedding_scale = std::sqrt(static_cast<double>(c.hidden_size));
  const auto found = root.find("hidden_activation");
  if (found == root.end() || found->is_null()) return;
  const JsonValue value(*found, c.source, "hidden_activation");
  ModelConfig said;
  set_gemma_activation(said, value);
  if (said.hidden_act != c.hidden_act) value.fail(c.hidden_act + ", as hidden_act has it, or null");
}

void read_gemma_gguf(ModelConfig& c, const GgufFile&) {
  c.norm_offset = 0.0;
  c.embedding_scale = std::sqrt(static_cast<double>(c.hidden_size));
}

}  // namespace

Family gemma_family() {
  Family f;
  f.name = "gemma";
  f.architectures = {"GemmaForCausalLM"};
  f.model_types = {"gemma"};
  f.variants = {"Gemma", "Gemma 1.1", "CodeGemma"};
  f.capabilities = {"completion", "chat"};
  f.published = {
      {"gemma", {"2b", "7b"}, {{"instruct", "google/gemma-{size}-it"}, {"base", "google/gemma-{size}"}}},
      {"gemma1.1", {"2b", "7b"}, {{"instruct", "google/gemma-1.1-{size}-it"}}},
      {"codegemma", {"7b"}, {{"instruct", "google/codegemma-{size}-it"}, {"base", "google/codegemma-{size}"}}},
      {"codegemma", {"2b"}, {{"base", "google/codegemma-{size}"}}}};
  f.defaults = llama_defaults(8192);
  ModelConfig& d = f.defaults;
  d.hidden_act = "gelu_pytorch_tanh";
  d.norm_offset = 1.0;
  d.num_key_value_heads = 16;
  d.head_dim = 256;
  d.tie_word_embeddings = true;
  d.bos_token_id = 2;
  d.eos_token_ids = {1};
  d.pad_token_id = 0;
  f.json_keys = with_llama({{"hidden_act", set_gemma_activation},
                            {"hidden_activation", ReadElsewhere{}},
                            {"use_bidirectional_attention", OnlyValue{false}},
                            attention_bias_key()});
  f.read_together = read_gemma;
  f.read_gguf = read_gemma_gguf;
  f.make = make_llama;
  f.weight_mapping = qwen_weight_mapping;
  return f;
}

}  // namespace lathe
