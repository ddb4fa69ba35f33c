// ModelConfig: the explicit description of a decoder-only transformer, one field a fact.
//
// It is filled from a checkpoint's config.json, from a YAML file under configs/, or from GGUF metadata; the three give
// the same values for the same model. A field that a family does not use keeps its default. What varies by layer is a
// vector, never arithmetic on the layer's index inside a model. What code around the blocks reads too stands in
// ModelSizes; headers name ModelConfig by that file's forward declaration.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/model_sizes.h"

namespace lathe {

class GgufFile;

struct ModelConfig : ModelSizes {
  std::string hidden_act;              // "silu", "gelu" (exact), "gelu_new" or "gelu_pytorch_tanh" (tanh form)
  double norm_eps = 1e-5;              // added to the variance in normalisation
  double norm_offset = 0.0;            // added to RMSNorm weights: 1 in Gemma's files, which store them minus one
  bool attention_bias = false;         // biases on the q, k and v projections
  bool attention_output_bias = false;  // bias on the output projection
  bool mlp_bias = false;               // biases in the feed-forward net
  bool qk_norm = false;                // RMSNorm over each head of q and k, before they are rotated

  bool norm_topk_prob = false;          // the chosen experts' probabilities are divided by their sum
  double router_aux_loss_coef = 0.001;  // weight of the routers' balancing loss in training

  bool use_parallel_residual = false;  // attention and feed-forward net read the same stream (GPT-NeoX, Falcon)
  bool shared_parallel_norm = false;   // through one norm (Falcon 7B), not one each
  double residual_scale = 1.0;         // multiplies what attention and net add to the stream (Granite)
  double logit_divisor = 1.0;          // divides the logits (Granite)
  double attention_scale = 0.0;        // multiplies q k^T; 0: 1 / sqrt(D)
  double attention_softcap = 0.0;      // c tanh(s / c) of the scores; 0: none
  double qkv_clip = 0.0;               // q, k and v are clamped to [-clip, clip] (MPT); 0: none
  bool use_logn_attention = false;     // queries behind the trained context grow with its logarithm (Qwen)
  bool alibi = false;                  // positions as a bias of the scores instead of rotation (Press et al. 2022)
  double alibi_bias_max = 8.0;         // the slopes are powers of 2^(-alibi_bias_max / Hq)

  double rope_theta = 10000.0;                  // base of the rotary frequencies; unused by learned positions
  double rope_local_theta = 0;                  // base of the layers with a window, unscaled (Gemma 3); 0: as all
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

  double initializer_range = 0.02;  // standard deviation of fresh weights
  // Of those below, the ones that may be misspelt, each with the known key that it is near to.
  std::map<std::string, std::string> misspelt;
  std::map<std::string, std::string> extra;  // keys that the library does not know, as JSON text: kept for export

  // Which of the batch's rope angles a layer takes: 1 in a layer with a window and a base of its own.
  size_t rope_kind(int64_t layer) const { return rope_local_theta > 0.0 && window(layer) > 0 ? 1 : 0; }
};

// Each of these throws Error naming the source, the key, what was expected and what was found, and validates. What a
// file leaves out is what the reference library's configuration class assumes (FamilyConfig::defaults).

// `text` is config.json; both spellings of the rope settings (rope_theta + rope_scaling, rope_parameters).
ModelConfig parse_config_json(const std::string& text, const std::string& source, FamilyConfigs families);
ModelConfig read_config_json(const std::string& path, FamilyConfigs families);
// `configs/<family>/<size>.yaml`: the fields above by name; a misspelt key is an error that names the nearest.
ModelConfig read_config_yaml(const std::string& path, FamilyConfigs families);
// Metadata `general.architecture` and `<architecture>.*`.
ModelConfig read_config_gguf(const GgufFile& file, FamilyConfigs families);

// A config.json where the name ends in .json, YAML otherwise.
std::shared_ptr<const ModelConfig> read_config(const std::string& path, FamilyConfigs families);

// Divisibility, ranges and supported values; throws Error naming field and values. Token ids at or above vocab_size are
// let through: published files have them, such an end of text is never reached, and such a first token is refused where
// it is used.
void validate(const ModelConfig& config);

}  // namespace lathe
