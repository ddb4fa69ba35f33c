// ModelSizes: the part of a configuration that code around the blocks reads: sizes, positions, windows, special tokens.
//
// Most of the library needs no more of a ModelConfig than this, and so is not compiled again when a family adds a field
// for its blocks (model_config.h).
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace lathe {

enum class RopeScaling : uint8_t { none, linear, dynamic, llama3, yarn, longrope, qwen };

struct ModelSizes {
  static constexpr int64_t kMostLayers = 10000;

  std::string architecture;  // class name of the checkpoint, "LlamaForCausalLM"
  std::string model_type;    // family name, "llama"

  int64_t vocab_size = 0;           // V: rows of the embedding table
  int64_t hidden_size = 0;          // C: width of the residual stream
  int64_t intermediate_size = 0;    // F: width inside the feed-forward net
  int64_t num_hidden_layers = 0;    // L: blocks
  int64_t num_attention_heads = 0;  // Hq: query heads
  int64_t num_key_value_heads = 0;  // Hk: key and value heads, a divisor of Hq
  int64_t head_dim = 0;             // D: width of a head; C / Hq where the file names none
  // Of a model that ranks share out (llm/tensor_parallel.h), the query heads that ranks before and behind this one
  // have.
  int64_t heads_before = 0, heads_behind = 0;
  std::vector<int64_t> layer_window;  // keys a query sees in each layer, itself included; 0: all. Empty: all layers 0
  bool tie_word_embeddings = false;   // the output head is the embedding table
  double embedding_scale = 1.0;       // multiplies the token embeddings (Gemma: sqrt(C))
  double final_logit_softcap = 0.0;   // c tanh(s / c) of the logits; 0: none

  int64_t num_experts = 0;               // E: feed-forward nets that a layer's router chooses from; 0: no router
  int64_t num_experts_per_tok = 0;       // k: nets that a token passes through
  int64_t moe_intermediate_size = 0;     // F of an expert; intermediate_size where the file names none
  std::vector<int64_t> mlp_only_layers;  // layers with one plain net in place of experts

  int64_t max_position_embeddings = 0;  // longest context that the model was trained for
  int64_t rotary_dim = 0;               // components of a head that are rotated; head_dim where the file names none
  RopeScaling rope_scaling = RopeScaling::none;
  double rope_factor = 1.0;                // scaling factor of linear, dynamic, llama3, yarn and longrope
  int64_t rope_original_max_position = 0;  // context before scaling (dynamic, llama3, yarn, longrope, qwen)

  std::optional<int64_t> bos_token_id;  // begins a text
  std::vector<int64_t> eos_token_ids;   // any of them ends a generation
  std::optional<int64_t> pad_token_id;
  std::string dtype = "float32";  // of the stored weights
  std::string source;             // the file it came from, for messages

  // Positions that a sequence may take: max_position_embeddings, times the factor where the scaling extends it (linear,
  // dynamic, yarn, longrope). Where the scaling names a smaller original context, max_position_embeddings is the
  // extended number already; so it always is with llama3. Rotary models may be taken further with a warning.
  int64_t context_limit() const;
  // The same, or `asked` where that is not 0. Throws Error where it is no length, or beyond learned positions.
  int64_t context_limit(int64_t asked) const;
  bool uses_rope() const { return rotary_dim > 0; }
  bool has_experts(int64_t layer) const;  // whether a router chooses the layer's feed-forward nets
  // 0 when the layer sees everything.
  int64_t window(int64_t layer) const { return layer_window.empty() ? 0 : layer_window[static_cast<size_t>(layer)]; }
};

struct ModelConfig;   // all of it: config/model_config.h
struct FamilyConfig;  // how a family's configurations are read: config/family_config.h
// The families that a reader chooses from, in the order of its messages.
using FamilyConfigs = std::span<const FamilyConfig* const>;

}  // namespace lathe
