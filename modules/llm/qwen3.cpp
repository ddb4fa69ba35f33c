// Qwen3 and Qwen3-Embedding: Yang et al. 2025, section 2.
//
// Llama's arithmetic with RMSNorm over each head of q and k before they are rotated (qk_norm), and no biases. Unusual:
// heads of 128 whatever C / Hq is. Files are Qwen2's; defaults are those of transformers' configuration_qwen3.py.
#include "config/family_keys.h"
#include "llm/families.h"

namespace lathe {

Family qwen3_family() {
  Family f;
  f.name = "qwen3";
  f.architectures = {"Qwen3ForCausalLM"};
  f.model_types = {"qwen3"};
  f.variants = {"Qwen3", "Qwen3-Embedding"};
  f.capabilities = {"completion", "chat", "embeddings"};
  f.published = {{"qwen3",
                  {"0.6B", "1.7B", "4B", "8B", "14B"},
                  {{"chat", "Qwen/Qwen3-{size}"}, {"base", "Qwen/Qwen3-{size}-Base"}}},
                 {"qwen3",
                  {"4B"},
                  {{"instruct", "Qwen/Qwen3-{size}-Instruct-2507"}, {"reasoning", "Qwen/Qwen3-{size}-Thinking-2507"}}},
                 {"qwen3", {"32B"}, {{"chat", "Qwen/Qwen3-{size}"}}},
                 {"qwen3-embedding", {"0.6B", "4B", "8B"}, {{"embedding", "Qwen/Qwen3-Embedding-{size}"}}}};
  f.defaults = llama_defaults(32768);
  f.defaults.num_key_value_heads = 32;
  f.defaults.head_dim = 128;
  f.defaults.qk_norm = true;
  f.json_keys = with_qwen2({attention_bias_key()});
  f.read_together = read_qwen2_windows;
  f.write_together = write_qwen2_windows;
  f.make = make_llama;
  f.weight_mapping = qwen_weight_mapping;
  return f;
}

}  // namespace lathe
