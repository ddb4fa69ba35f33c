// Llama 2, 3, 3.x and Code Llama, and what shares their architecture (SmolLM2, TinyLlama); Mistral, Qwen2 and Qwen3 by
// options of the config.
//
//   x = embed(tokens)                                  (N, C)
//   L times: x = x + attention(rms_norm(x))            rotary positions, grouped queries
//            x = x + feed_forward(rms_norm(x))         w_down (silu(w_gate x) * w_up x)
//   logits = head(rms_norm(x))                         (N, V)
//
// Touvron et al. 2023 (Llama 2, section 2.2); Grattafiori et al. 2024 (Llama 3, section 3.2).
// Pre-norm blocks with RMSNorm, rotary positions on half-split pairs, grouped-query attention and a SwiGLU net.
// Unusual: nothing. Every other family is described by its difference from this one:
//   Mistral (Jiang et al. 2023, section 2)    layer_window: a query sees the last 4096 keys; Nemo: head_dim < C / Hq
//   Qwen2   (Yang et al. 2024, section 2.2)   attention_bias: on q, k and v, not on the output; layer_window in some
//   Qwen3   (Yang et al. 2025, section 2)     qk_norm: RMSNorm over each head of q and k before rotation; no biases
#include "block/pre_norm_block.h"
#include "common/feed_forward_net.h"
#include "common/norm.h"
#include "config/family_keys.h"
#include "llm/decoder.h"
#include "llm/families.h"
#include "llm/gguf_names.h"

namespace lathe {

using Llama = Decoder<PreNormBlock<RmsNorm, GatedFeedForwardNet>, RmsNorm>;

std::unique_ptr<CausalLM> make_llama(const ModelConfig& config) { return make_model<Llama>(config); }

namespace {

WeightMapping with_norms(WeightMapping gguf) {
  rename_in_layers(gguf, "attn_norm", "input_layernorm");
  return rename_in_layers(gguf, "ffn_norm", "post_attention_layernorm").skip("rope_freqs.weight");
}

}  // namespace

// Hugging Face names are the model's own.
WeightMapping llama_weight_mapping(const ModelConfig& config, CheckpointFormat format) {
  if (format == CheckpointFormat::gguf) return with_norms(gguf_mapping(interleaved_rope_rows(config.head_dim)));
  WeightMapping m;
  m.base_prefix = "model.";
  return m.skip("model.layers.{}.self_attn.rotary_emb.inv_freq");
}

// GGUF keeps the half-split pairs of Qwen's q and k where it makes neighbours of Llama's.
WeightMapping qwen_weight_mapping(const ModelConfig& config, CheckpointFormat format) {
  return format == CheckpointFormat::gguf ? with_norms(gguf_mapping()) : llama_weight_mapping(config, format);
}

Family llama_family() {
  Family f;
  f.name = "llama";
  f.architectures = {"LlamaForCausalLM"};
  f.model_types = {"llama"};
  f.variants = {"Llama 2", "Llama 3", "Llama 3.1", "Llama 3.2", "Llama 3.3", "Code Llama"};
  f.capabilities = {"completion", "chat"};
  f.published = {
      {"llama2",
       {"7b", "13b", "70b"},
       {{"chat", "meta-llama/Llama-2-{size}-chat-hf"}, {"base", "meta-llama/Llama-2-{size}-hf"}}},
      {"llama3",
       {"8B", "70B"},
       {{"instruct", "meta-llama/Meta-Llama-3-{size}-Instruct"}, {"base", "meta-llama/Meta-Llama-3-{size}"}}},
      {"llama3.1",
       {"8B", "70B", "405B"},
       {{"instruct", "meta-llama/Llama-3.1-{size}-Instruct"}, {"base", "meta-llama/Llama-3.1-{size}"}}},
      {"llama3.2",
       {"1B", "3B"},
       {{"instruct", "meta-llama/Llama-3.2-{size}-Instruct"}, {"base", "meta-llama/Llama-3.2-{size}"}}},
      {"llama3.3", {"70B"}, {{"instruct", "meta-llama/Llama-3.3-{size}-Instruct"}}},
      {"codellama",
       {"7b", "13b", "34b", "70b"},
       {{"instruct", "codellama/CodeLlama-{size}-Instruct-hf"}, {"base", "codellama/CodeLlama-{size}-hf"}}},
      {"smollm2",
       {"135M", "360M", "1.7B"},
       {{"instruct", "HuggingFaceTB/SmolLM2-{size}-Instruct"}, {"base", "HuggingFaceTB/SmolLM2-{size}"}}},
      {"tinyllama", {"1.1B"}, {{"chat", "TinyLlama/TinyLlama-{size}-Chat-v1.0"}}},
      {"deepseek-r1", {"8B", "70B"}, {{"reasoning", "deepseek-ai/DeepSeek-R1-Distill-Llama-{size}"}}}};
  f.defaults = llama_defaults(2048);
  f.defaults.bos_token_id = 1;
  f.defaults.eos_token_ids = {2};
  f.json_keys = with_llama({attention_bias_key(), {"mlp_bias", &ModelConfig::mlp_bias}});
  f.make = make_llama;
  f.weight_mapping = llama_weight_mapping;
  return f;
}

}  // namespace lathe
