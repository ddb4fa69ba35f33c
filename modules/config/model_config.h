// ModelConfig: the explicit description of a decoder-only transformer, one field a fact.
//
// It is filled from a checkpoint's config.json, from a YAML file under configs/, or from GGUF metadata; the three give
// the same values for the same model. A field that a family does not use keeps its default. What varies by layer is a
// vector, never arithmetic on the layer's index inside a model.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace lathe {

class GgufFile;

enum class RopeScaling : uint8_t { none, linear, dynamic, llama3, yarn, longrope, qwen };

struct ModelConfig {
  static constexpr int64_t kMostLayers = 10000;

  std::string architecture;  // class name of the checkpoint, "LlamaForCausalLM"
  std::string model_type;    // family name, "llama"

  int64_t vocab_size = 0;               // V: rows of the embedding table
  int64_t hidden_size = 0;              // C: width of the residual stream
  int64_t intermediate_size = 0;        // F: width inside the feed-forward net
  int64_t num_hidden_layers = 0;        // L: blocks
  int64_t num_attention_heads = 0;      // Hq: query heads
  int64_t num_key_value_heads = 0;      // Hk: key and value heads, a divisor of Hq
  int64_t head_dim = 0;                 // D: width of a head; C / Hq where the file names none
  int64_t max_position_embeddings = 0;  // longest context that the model was trained for
  bool tie_word_embeddings = false;     // the output head is the embedding table

  std::string hidden_act;              // "silu", "gelu" (exact), "gelu_new" or "gelu_pytorch_tanh" (tanh form)
  double norm_eps = 1e-5;              // added to the variance in normalisation
  double norm_offset = 0.0;            // added to RMSNorm weights: 1 in Gemma's files, which store them minus one
  bool attention_bias = false;         // biases on the q, k and v projections
  bool attention_output_bias = false;  // bias on the output projection
  bool mlp_bias = false;               // biases in the feed-forward net
  bool qk_norm = false;                // RMSNorm over each head of q and k, before they are rotated
  std::vector<int64_t> layer_window;   // keys a query sees in each layer, itself included; 0: all. Empty: all layers 0

  int64_t num_experts = 0;               // E: feed-forward nets that a layer's router chooses from; 0: no router
  int64_t num_experts_per_tok = 0;       // k: nets that a token passes through
  int64_t moe_intermediate_size = 0;     // F of an expert; intermediate_size where the file names none
  bool norm_topk_prob = false;           // the chosen experts' probabilities are divided by their sum
  double router_aux_loss_coef = 0.001;   // weight of the routers' balancing loss in training
  std::vector<int64_t> mlp_only_layers;  // layers with one plain net in place of experts

  bool use_parallel_residual = false;  // attention and feed-forward net read the same stream (GPT-NeoX, Falcon)
  bool shared_parallel_norm = false;   // through one norm (Falcon 7B), not one each
  double embedding_scale = 1.0;        // multiplies the token embeddings (Gemma: sqrt(C))
  double attention_scale = 0.0;        // multiplies q k^T; 0: 1 / sqrt(D)
  double attention_softcap = 0.0;      // c tanh(s / c) of the scores; 0: none
  double final_logit_softcap = 0.0;    // the same of the logits
  double qkv_clip = 0.0;               // q, k and v are clamped to [-clip, clip] (MPT); 0: none
  bool use_logn_attention = false;     // queries behind the trained context grow with its logarithm (Qwen)
  bool alibi = false;                  // positions as a bias of the scores instead of rotation (Press et al. 2022)
  double alibi_bias_max = 8.0;         // the slopes are powers of 2^(-alibi_bias_max / Hq)

  double rope_theta = 10000.0;  // base of the rotary frequencies; unused by learned positions
  double rope_local_theta = 0;  // base of the layers with a window, which no scaling touches (Gemma 3); 0: as all
  int64_t rotary_dim = 0;       // components of a head that are rotated; head_dim where the file names none
  RopeScaling rope_scaling = RopeScaling::none;
  double rope_factor = 1.0;                     // scaling factor of linear, dynamic, llama3, yarn and longrope
  int64_t rope_original_max_position = 0;       // context before scaling (dynamic, llama3, yarn, longrope, qwen)
  double rope_low_freq_factor = 1.0;            // llama3
  double rope_high_freq_factor = 4.0;           // llama3
  double rope_beta_fast = 32.0;                 // yarn
  double rope_beta_slow = 1.0;                  // yarn
  bool rope_truncate = true;                    // yarn: whether the ramp's borders are rounded to whole components
  std::optional<double> rope_attention_factor;  // yarn, longrope: multiplies cos and sin; computed where absent
  std::vector<double> rope_short_factor;        // longrope: (R / 2) divisors of the frequencies up to the original ...
  std::vector<double> rope_long_factor;         // ... context, and beyond it
  std::vector<float> rope_frequency_factors;    // (R / 2) divisors of the frequencies that a file brings; empty: none
  std::optional<double> rope_mscale;            // yarn, DeepSeek's spelling of the attention factor
  std::optional<double> rope_mscale_all_dim;    // yarn, as above

  std::optional<int64_t> bos_token_id;  // begins a text
  std::vector<int64_t> eos_token_ids;   // any of them ends a generation
  std::optional<int64_t> pad_token_id;
  double initializer_range = 0.02;  // standard deviation of fresh weights
  std::string dtype = "float32";    // of the stored weights

  std::string source;                        // the file it came from, for messages
  std::map<std::string, std::string> extra;  // keys that the library does not know, as JSON text: kept for export

  // Positions that a sequence may take: max_position_embeddings, times the factor where the scaling extends it (linear,
  // dynamic, yarn, longrope). Where the scaling names a smaller original context, max_position_embeddings is the
  // extended number already; so it always is with llama3. Rotary models may be taken further with a warning.
  int64_t context_limit() const;
  bool uses_rope() const { return rotary_dim > 0; }
  bool has_experts(int64_t layer) const;  // whether a router chooses the layer's feed-forward nets
  // Which of the batch's rope angles a layer takes: 1 in a layer with a window and a base of its own.
  size_t rope_kind(int64_t layer) const { return rope_local_theta > 0.0 && window(layer) > 0 ? 1 : 0; }
  // 0 when the layer sees everything.
  int64_t window(int64_t layer) const { return layer_window.empty() ? 0 : layer_window[static_cast<size_t>(layer)]; }
};

// Each of these throws Error naming the source, the key, what was expected and what was found, and validates. What a
// file leaves out is what the reference library's configuration class assumes (config_families.cpp).

// `text` is config.json; both spellings of the rope settings (rope_theta + rope_scaling, rope_parameters).
ModelConfig parse_config_json(const std::string& text, const std::string& source);
ModelConfig read_config_json(const std::string& path);
// `configs/<family>/<size>.yaml`: the fields above by name; a misspelt key is an error that names the nearest.
ModelConfig read_config_yaml(const std::string& path);
// Metadata `general.architecture` and `<architecture>.*`.
ModelConfig read_config_gguf(const GgufFile& file);

// Divisibility, ranges and supported values; throws Error naming field and values. Token ids at or above vocab_size are
// let through: published files have them, such an end of text is never reached, and such a first token is refused where
// it is used.
void validate(const ModelConfig& config);

}  // namespace lathe
