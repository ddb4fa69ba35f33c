// What a ModelConfig computes, what makes one valid, and how it is shown.
#include "config/model_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "config/config_values.h"
#include "config/family_config.h"
#include "formats/quote.h"
#include "tensor/errors.h"

namespace lathe {
namespace {

// Messages begin with the file, where there is one.
class Checker {
 public:
  explicit Checker(const ModelConfig& config) : prefix_(config.source.empty() ? "" : config.source + ": ") {}

  template <class... Args>
  void operator()(bool condition, fmt::format_string<Args...> format, Args&&... args) const {
    if (!condition) throw Error("config: " + prefix_ + fmt::format(format, std::forward<Args>(args)...));
  }
  void size(const char* name, int64_t value, int64_t largest = std::numeric_limits<int32_t>::max()) const {
    (*this)(value >= 1 && value <= largest, "{} is {}, expected 1 to {}", name, value, largest);
  }
  // A finite number of at least, or above, `bound`.
  void number(const char* name, double value, double bound, bool inclusive) const {
    (*this)(std::isfinite(value) && (inclusive ? value >= bound : value > bound), "{} is {}, expected {} {}", name,
            value, inclusive ? "at least" : "above", bound);
  }

 private:
  std::string prefix_;
};

void validate_sizes(const ModelConfig& c, const Checker& check) {
  check.size("vocab_size", c.vocab_size);
  check.size("hidden_size", c.hidden_size);
  check.size("intermediate_size", c.intermediate_size);
  check.size("num_hidden_layers", c.num_hidden_layers, ModelConfig::kMostLayers);
  check.size("num_attention_heads", c.num_attention_heads);
  check.size("num_key_value_heads", c.num_key_value_heads);
  check.size("head_dim", c.head_dim);
  check.size("max_position_embeddings", c.max_position_embeddings);
  check(c.num_attention_heads % c.num_key_value_heads == 0,
        "num_attention_heads {} is no multiple of num_key_value_heads {}", c.num_attention_heads,
        c.num_key_value_heads);
  // Keeps every later product of sizes, in elements and in bytes, far from overflow.
  const auto d = [](int64_t n) { return static_cast<double>(n); };
  const double attention =
      2.0 * d(c.hidden_size) * d(c.head_dim) * (d(c.num_attention_heads) + d(c.num_key_value_heads));
  const double feed_forward = d(c.intermediate_size) + d(c.num_experts) * d(c.moe_intermediate_size);
  const double parameters = 2.0 * d(c.vocab_size) * d(c.hidden_size) + d(c.max_position_embeddings) * d(c.head_dim) +
                            d(c.num_hidden_layers) * (attention + 3.0 * d(c.hidden_size) * feed_forward);
  check(parameters < 1e15,
        "the sizes describe {:.2g} parameters, expected less than 1e15 (vocab_size {}, hidden_size {}, "
        "intermediate_size {}, "
        "{} layers, {} heads of head_dim {})",
        parameters, c.vocab_size, c.hidden_size, c.intermediate_size, c.num_hidden_layers, c.num_attention_heads,
        c.head_dim);
}

void validate_experts(const ModelConfig& c, const Checker& check) {
  check(c.num_experts >= 0, "num_experts is {}, expected 0 or more", c.num_experts);
  if (c.num_experts == 0) return;
  check.size("num_experts", c.num_experts, 65536);
  check.size("moe_intermediate_size", c.moe_intermediate_size);
  check(c.num_experts_per_tok >= 1 && c.num_experts_per_tok <= c.num_experts,
        "num_experts_per_tok is {}, expected 1 to num_experts {}", c.num_experts_per_tok, c.num_experts);
  check.number("router_aux_loss_coef", c.router_aux_loss_coef, 0.0, true);
  const size_t plain = c.mlp_only_layers.size();
  check(plain <= static_cast<size_t>(c.num_hidden_layers), "mlp_only_layers holds {} values, the model has {} layers",
        plain, c.num_hidden_layers);
  for (const int64_t layer : c.mlp_only_layers)
    check(layer >= 0 && layer < c.num_hidden_layers, "mlp_only_layers holds {}, expected 0 to {}", layer,
          c.num_hidden_layers - 1);
}

void validate_longrope(const ModelConfig& c, const Checker& check) {
  check.number("rope_original_max_position", static_cast<double>(c.rope_original_max_position), 1.0, false);
  const auto half = static_cast<size_t>(c.rotary_dim / 2);
  for (const auto& [name, factors] :
       {std::pair{"rope_short_factor", &c.rope_short_factor}, std::pair{"rope_long_factor", &c.rope_long_factor}}) {
    check(factors->size() == half, "{} holds {} values, expected rotary_dim / 2 = {}", name, factors->size(), half);
    for (const double factor : *factors) check.number(name, factor, 0.0, false);
  }
}

void validate_rope(const ModelConfig& c, const Checker& check) {
  check(c.rotary_dim >= 0 && c.rotary_dim <= c.head_dim && c.rotary_dim % 2 == 0,
        "rotary_dim is {}, expected an even number from 0 to head_dim {}", c.rotary_dim, c.head_dim);
  check(c.uses_rope() || c.rope_scaling == RopeScaling::none, "rope_scaling is set, but rotary_dim is 0");
  if (!c.uses_rope()) return;
  check.number("rope_theta", c.rope_theta, 0.0, false);
  check.number("rope_factor", c.rope_factor, 1.0, true);
  check.number("rope_local_theta", c.rope_local_theta, 0.0, true);
  const auto& factors = c.rope_frequency_factors;
  check(factors.empty() || factors.size() == static_cast<size_t>(c.rotary_dim / 2),
        "rope_frequency_factors holds {} values, expected rotary_dim / 2 = {}", factors.size(), c.rotary_dim / 2);
  for (const float factor : factors) check.number("a value of rope_frequency_factors", factor, 0.0, false);
  const auto scaling = c.rope_scaling;
  if (scaling == RopeScaling::none || scaling == RopeScaling::linear) return;
  check.size("rope_original_max_position", c.rope_original_max_position);
  if (scaling == RopeScaling::llama3) {
    check.number("rope_low_freq_factor", c.rope_low_freq_factor, 0.0, false);
    check.number("rope_high_freq_factor", c.rope_high_freq_factor, c.rope_low_freq_factor, false);
  }
  if (scaling == RopeScaling::yarn) {
    check.number("rope_beta_slow", c.rope_beta_slow, 0.0, false);
    check.number("rope_beta_fast", c.rope_beta_fast, c.rope_beta_slow, false);
  }
  if (c.rope_attention_factor) check.number("rope_attention_factor", *c.rope_attention_factor, 0.0, false);
  if (scaling == RopeScaling::longrope) validate_longrope(c, check);
}

void validate_attention(const ModelConfig& c, const Checker& check) {
  check.number("attention_scale", c.attention_scale, 0.0, true);
  check.number("attention_softcap", c.attention_softcap, 0.0, true);
  check.number("qkv_clip", c.qkv_clip, 0.0, true);
  check(!c.alibi || !c.uses_rope(), "alibi is set, but rotary_dim is {}", c.rotary_dim);
  if (c.alibi) check.number("alibi_bias_max", c.alibi_bias_max, 0.0, false);
  check(!c.use_logn_attention || c.rope_original_max_position > 1,
        "use_logn_attention is set, but rope_original_max_position is {}", c.rope_original_max_position);
  check(c.layer_window.empty() || c.layer_window.size() == static_cast<size_t>(c.num_hidden_layers),
        "layer_window holds {} values, expected num_hidden_layers = {}", c.layer_window.size(), c.num_hidden_layers);
  for (const int64_t window : c.layer_window) check(window >= 0, "layer_window holds {}, expected 0 or more", window);
}

using Json = nlohmann::ordered_json;

struct FieldReader {
  const ModelConfig& c;
  Json operator()(RopeScaling ModelConfig::*f) const { return rope_scaling_name(c.*f); }
  Json operator()(std::optional<int64_t> ModelConfig::*f) const { return c.*f ? Json(*(c.*f)) : Json(); }
  Json operator()(std::optional<double> ModelConfig::*f) const { return c.*f ? Json(*(c.*f)) : Json(); }
  template <class T>
  Json operator()(T ModelConfig::*f) const {
    return c.*f;
  }
};

}  // namespace

bool ModelSizes::has_experts(int64_t layer) const {
  return num_experts > 0 && std::find(mlp_only_layers.begin(), mlp_only_layers.end(), layer) == mlp_only_layers.end();
}

int64_t ModelSizes::context_limit() const {
  const bool extended = rope_original_max_position > 0 && rope_original_max_position < max_position_embeddings;
  if (rope_scaling == RopeScaling::none || rope_scaling == RopeScaling::llama3 || !uses_rope())
    return max_position_embeddings;
  if (rope_scaling == RopeScaling::qwen) return max_position_embeddings;
  if (rope_scaling != RopeScaling::yarn && extended) return max_position_embeddings;
  const int64_t original = extended ? rope_original_max_position : max_position_embeddings;
  const double scaled = std::min(static_cast<double>(original) * rope_factor, 0x1p31 - 1);
  // Some files with yarn name more than original times factor, to leave room for the answer.
  return std::max(max_position_embeddings, static_cast<int64_t>(scaled));
}

int64_t ModelSizes::context_limit(int64_t asked) const {
  const int64_t limit = context_limit();
  if (asked == 0) return limit;
  lathe::check(asked > 0 && asked <= int64_t{1} << 31, "context", "expected 1 to 2^31, found {}", asked);
  lathe::check(asked <= limit || uses_rope(), "context", "{} exceeds the model's {} learned positions", asked, limit);
  return asked;
}

std::shared_ptr<const ModelConfig> read_config(const std::string& path, FamilyConfigs families) {
  return std::make_shared<const ModelConfig>(path.ends_with(".json") ? read_config_json(path, families)
                                                                     : read_config_yaml(path, families));
}

void validate(const ModelConfig& c) {
  const Checker check(c);
  validate_sizes(c, check);
  validate_experts(c, check);
  validate_rope(c, check);
  validate_attention(c, check);
  constexpr std::array kActivations = {"silu", "gelu", "gelu_new", "gelu_pytorch_tanh"};
  check(std::find(kActivations.begin(), kActivations.end(), c.hidden_act) != kActivations.end(),
        "hidden_act is {}, expected one of {}", quote(c.hidden_act), fmt::join(kActivations, ", "));
  check.number("norm_eps", c.norm_eps, 0.0, true);
  check.number("initializer_range", c.initializer_range, 0.0, true);
  check.number("norm_offset", c.norm_offset, 0.0, true);
  check.number("embedding_scale", c.embedding_scale, 0.0, false);
  check.number("residual_scale", c.residual_scale, 0.0, false);
  check.number("logit_divisor", c.logit_divisor, 0.0, false);
  check.number("final_logit_softcap", c.final_logit_softcap, 0.0, true);
  check(c.bos_token_id.value_or(0) >= 0, "bos_token_id is {}, expected 0 or more", c.bos_token_id.value_or(0));
  check(c.pad_token_id.value_or(0) >= 0, "pad_token_id is {}, expected 0 or more", c.pad_token_id.value_or(0));
  for (const int64_t id : c.eos_token_ids) check(id >= 0, "eos_token_ids holds {}, expected 0 or more", id);
}

const char* rope_scaling_name(RopeScaling scaling) {
  switch (scaling) {
    case RopeScaling::linear: return "linear";
    case RopeScaling::dynamic: return "dynamic";
    case RopeScaling::llama3: return "llama3";
    case RopeScaling::yarn: return "yarn";
    case RopeScaling::longrope: return "longrope";
    case RopeScaling::qwen: return "qwen";
    default: return "default";
  }
}

Json field_value(const ModelConfig& c, const FieldPointer& field) { return std::visit(FieldReader{c}, field); }

Json config_values(const ModelConfig& c) {
  const ModelConfig defaults;
  Json values = Json::object();
  for (const NamedField& field : config_fields()) {
    const bool always = field.name == "tie_word_embeddings" || field.name == "norm_eps";
    const bool rope = field.name == "rope_theta";
    if (rope ? c.uses_rope() : always || !equal_fields(c, defaults, field.field))
      values[field.name] = field_value(c, field.field);
    if (field.name == "max_position_embeddings") values["context_limit"] = c.context_limit();
  }
  return values;
}

Json unknown_keys(const ModelConfig& c, const FamilyConfig& family) {
  const std::vector<std::string> known = names_of(family.json_keys);
  Json keys = Json::object();
  for (const auto& [key, value] : c.extra) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    const auto nearest = c.misspelt.find(key);
    keys[key] = nearest == c.misspelt.end() ? Json() : Json(nearest->second);
  }
  return keys;
}

}  // namespace lathe
