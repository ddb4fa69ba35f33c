// See family_config.h.
#include "config/family_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "formats/quote.h"

namespace lathe {

int64_t JsonValue::integer() const {
  constexpr int64_t kLargest = int64_t{1} << 53;
  if (!value_.is_number_integer()) fail("an integer");
  if (value_.is_number_unsigned() && value_.get<uint64_t>() > uint64_t{kLargest}) fail("an integer up to 2^53");
  const auto n = value_.get<int64_t>();
  if (n < -kLargest) fail("an integer from -2^53");
  return n;
}
double JsonValue::number() const {
  if (!value_.is_number()) fail("a number");
  return value_.get<double>();
}
bool JsonValue::boolean() const {
  if (!value_.is_boolean()) fail("true or false");
  return value_.get<bool>();
}
std::string JsonValue::text() const {
  if (!value_.is_string()) fail("a string");
  return value_.get<std::string>();
}
std::vector<int64_t> JsonValue::integers() const {
  if (!value_.is_array()) fail("a list of integers");
  std::vector<int64_t> values;
  for (const nlohmann::json& item : value_) values.push_back(JsonValue(item, source_, key_).integer());
  return values;
}
std::vector<double> JsonValue::numbers() const {
  if (!value_.is_array()) fail("a list of numbers");
  std::vector<double> values;
  for (const nlohmann::json& item : value_) values.push_back(JsonValue(item, source_, key_).number());
  return values;
}
void JsonValue::fail(std::string_view expected, const std::string& hint) const {
  throw Error(fmt::format("config: {}: {} is {}, expected {}", source_, key_, quote(value_.dump()), expected), hint);
}

const FamilyConfig& find_family(FamilyConfigs families, const std::string& architecture, const std::string& model_type,
                                const std::string& source) {
  std::vector<std::string> known;
  for (const FamilyConfig* family : families) {
    const auto& names = architecture.empty() ? family->model_types : family->architectures;
    const std::string& wanted = architecture.empty() ? model_type : architecture;
    if (std::find(names.begin(), names.end(), wanted) != names.end()) return *family;
    if (architecture.empty())
      known.push_back(family->model_type());
    else
      known.insert(known.end(), family->architectures.begin(), family->architectures.end());
  }
  check(!architecture.empty() || !model_type.empty(), "config",
        "{}: neither the architecture nor the model type is named, expected one of {}", source, fmt::join(known, ", "));
  throw Error(fmt::format("config: {}: the {} {} is not known, expected one of {}", source,
                          architecture.empty() ? "model type" : "architecture",
                          quote(architecture.empty() ? model_type : architecture), fmt::join(known, ", ")));
}

const FamilyConfig& find_gguf_family(FamilyConfigs families, const std::string& architecture, bool has_experts,
                                     bool all_windows, const std::string& source) {
  std::vector<std::string> known;
  const FamilyConfig* first = nullptr;
  for (const FamilyConfig* family : families) {
    const bool experts = family->defaults.num_experts > 0;
    known.push_back(family->gguf_name() + (experts ? " with experts" : ""));
    if (family->gguf_name() != architecture || experts != has_experts) continue;
    if (family->gguf_all_windows == all_windows) return *family;
    if (first == nullptr) first = family;
  }
  if (first != nullptr) return *first;
  throw Error(fmt::format("config: {}: the architecture {}{} is not known, expected one of {}", source,
                          quote(architecture), has_experts ? " with experts" : "", fmt::join(known, ", ")));
}

const std::vector<NamedField>& config_fields() {
  using M = ModelConfig;
  static const std::vector<NamedField> fields = {
      {"architecture", &M::architecture},
      {"model_type", &M::model_type},
      {"vocab_size", &M::vocab_size},
      {"hidden_size", &M::hidden_size},
      {"intermediate_size", &M::intermediate_size},
      {"num_hidden_layers", &M::num_hidden_layers},
      {"num_attention_heads", &M::num_attention_heads},
      {"num_key_value_heads", &M::num_key_value_heads},
      {"head_dim", &M::head_dim},
      {"max_position_embeddings", &M::max_position_embeddings},
      {"tie_word_embeddings", &M::tie_word_embeddings},
      {"hidden_act", &M::hidden_act},
      {"norm_eps", &M::norm_eps},
      {"norm_offset", &M::norm_offset},
      {"attention_bias", &M::attention_bias},
      {"attention_output_bias", &M::attention_output_bias},
      {"mlp_bias", &M::mlp_bias},
      {"qk_norm", &M::qk_norm},
      {"layer_window", &M::layer_window},
      {"num_experts", &M::num_experts},
      {"num_experts_per_tok", &M::num_experts_per_tok},
      {"moe_intermediate_size", &M::moe_intermediate_size},
      {"norm_topk_prob", &M::norm_topk_prob},
      {"router_aux_loss_coef", &M::router_aux_loss_coef},
      {"mlp_only_layers", &M::mlp_only_layers},
      {"use_parallel_residual", &M::use_parallel_residual},
      {"shared_parallel_norm", &M::shared_parallel_norm},
      {"embedding_scale", &M::embedding_scale},
      {"residual_scale", &M::residual_scale},
      {"logit_divisor", &M::logit_divisor},
      {"attention_scale", &M::attention_scale},
      {"attention_softcap", &M::attention_softcap},
      {"final_logit_softcap", &M::final_logit_softcap},
      {"qkv_clip", &M::qkv_clip},
      {"use_logn_attention", &M::use_logn_attention},
      {"alibi", &M::alibi},
      {"alibi_bias_max", &M::alibi_bias_max},
      {"rope_theta", &M::rope_theta},
      {"rope_local_theta", &M::rope_local_theta},
      {"rotary_dim", &M::rotary_dim},
      {"rope_scaling", &M::rope_scaling},
      {"rope_factor", &M::rope_factor},
      {"rope_original_max_position", &M::rope_original_max_position},
      {"rope_low_freq_factor", &M::rope_low_freq_factor},
      {"rope_high_freq_factor", &M::rope_high_freq_factor},
      {"rope_beta_fast", &M::rope_beta_fast},
      {"rope_beta_slow", &M::rope_beta_slow},
      {"rope_truncate", &M::rope_truncate},
      {"rope_attention_factor", &M::rope_attention_factor},
      {"rope_short_factor", &M::rope_short_factor},
      {"rope_long_factor", &M::rope_long_factor},
      {"rope_mscale", &M::rope_mscale},
      {"rope_mscale_all_dim", &M::rope_mscale_all_dim},
      {"bos_token_id", &M::bos_token_id},
      {"eos_token_ids", &M::eos_token_ids},
      {"pad_token_id", &M::pad_token_id},
      {"initializer_range", &M::initializer_range},
      {"dtype", &M::dtype},
  };
  return fields;
}

bool equal_fields(const ModelConfig& a, const ModelConfig& b, const FieldPointer& field) {
  return std::visit([&](auto f) { return a.*f == b.*f; }, field);
}

RopeScaling parse_rope_scaling(const std::string& name, const std::string& source, const std::string& key) {
  if (name == "default" || name == "none") return RopeScaling::none;
  if (name == "linear") return RopeScaling::linear;
  if (name == "dynamic") return RopeScaling::dynamic;
  if (name == "llama3") return RopeScaling::llama3;
  if (name == "yarn") return RopeScaling::yarn;
  if (name == "longrope" || name == "su") return RopeScaling::longrope;  // "su": the first files of Phi-3
  if (name == "qwen") return RopeScaling::qwen;
  throw Error(
      fmt::format("config: {}: {} is {}, expected one of default, linear, dynamic, llama3, yarn, longrope, qwen",
                  source, key, quote(name)));
}

void complete_config(ModelConfig& c, const FamilyConfig& family) {
  if (c.num_key_value_heads == 0) c.num_key_value_heads = c.num_attention_heads;
  if (c.head_dim == 0 && c.num_attention_heads > 0) {
    check(c.hidden_size % c.num_attention_heads == 0, "config",
          "{}: hidden_size {} is no multiple of num_attention_heads {}, and no head_dim is named", c.source,
          c.hidden_size, c.num_attention_heads);
    c.head_dim = c.hidden_size / c.num_attention_heads;
  }
  if (c.alibi) c.rotary_dim = 0;
  if (c.rotary_dim < 0) c.rotary_dim = c.head_dim;
  // A width that validate() will refuse is not multiplied: it might overflow.
  const bool plausible = c.hidden_size > 0 && c.hidden_size < (int64_t{1} << 40);
  if (c.intermediate_size == 0 && plausible) c.intermediate_size = family.net_width * c.hidden_size;
  if (c.num_experts > 0 && c.moe_intermediate_size == 0) c.moe_intermediate_size = c.intermediate_size;
  if (c.rope_original_max_position == 0 &&
      (c.rope_scaling == RopeScaling::dynamic || c.rope_scaling == RopeScaling::yarn ||
       c.rope_scaling == RopeScaling::longrope))
    c.rope_original_max_position = c.max_position_embeddings;
  validate(c);
}

}  // namespace lathe
