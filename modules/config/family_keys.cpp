// See family_keys.h. Spellings are those of the configuration classes of transformers 4 and 5
// (configuration_<model_type>.py).
#include "config/family_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "formats/gguf.h"
#include "formats/quote.h"

namespace lathe {
namespace {

// Older files write -1 for "none".
void set_id(std::optional<int64_t>& id, const JsonValue& value) {
  const int64_t n = value.integer();
  id = n < 0 ? std::nullopt : std::optional(n);
}

void set_end_ids(ModelConfig& c, const JsonValue& value) {
  c.eos_token_ids.clear();
  const auto add = [&](const nlohmann::json& id) {
    if (!id.is_number_integer()) value.fail("an integer, a list of integers or null");
    if (id.is_number_unsigned() ? id.get<uint64_t>() < (uint64_t{1} << 53) : false)
      c.eos_token_ids.push_back(id.get<int64_t>());
  };
  if (!value.raw().is_array()) return add(value.raw());
  for (const nlohmann::json& id : value.raw()) add(id);
}

void set_dtype(ModelConfig& c, const JsonValue& value) {
  const std::string name = value.text();
  c.dtype = name.starts_with("torch.") ? name.substr(6) : name;
}

// What the loader can turn into its own block formats (load_model/gptq_awq.h) is handed on to it.
void set_quantisation(ModelConfig& c, const JsonValue& value) {
  const nlohmann::json& settings = value.raw();
  const auto is = [&](const char* key, std::initializer_list<nlohmann::json> values) {
    const auto found = settings.find(key);
    return found == settings.end() || std::find(values.begin(), values.end(), *found) != values.end();
  };
  const bool known = settings.is_object() && settings.contains("quant_method") && is("quant_method", {"gptq", "awq"}) &&
                     settings.contains("bits") && is("bits", {4}) && is("version", {"gemm", "GEMM"}) &&
                     is("checkpoint_format", {"gptq", "gptq_v2", "gemm"}) &&
                     settings.value("group_size", nlohmann::json(-1)).is_number_integer();
  if (!known) {
    const auto shown = [&](const char* key) {
      return settings.is_object() && settings.contains(key) ? settings.at(key).dump() : "nothing";
    };
    throw Error(fmt::format("config: {}: quantization_config is of the method {} with bits {}, expected GPTQ or AWQ "
                            "(gemm) with 4, or none",
                            value.where(), quote(shown("quant_method")), quote(shown("bits"))),
                "use the original checkpoint, or a GGUF file of it");
  }
  c.extra["quantization_config"] = settings.dump();
}

// Layers of their own sizes.
void set_layers_apart(ModelConfig&, const JsonValue& value) {
  if (!value.raw().empty()) value.fail("null: nothing else is supported");
}

using M = ModelConfig;

}  // namespace

void set_activation(ModelConfig& c, const JsonValue& value) {
  const std::string name = value.text();
  if (name == "silu" || name == "swish")
    c.hidden_act = "silu";
  else if (name == "gelu_fast")  // the tanh form with its constant written out
    c.hidden_act = "gelu_new";
  else if (name == "gelu" || name == "gelu_new" || name == "gelu_pytorch_tanh")
    c.hidden_act = name;
  else
    value.fail("one of silu, gelu, gelu_new, gelu_fast, gelu_pytorch_tanh");
}

std::vector<JsonKey> with_common(std::vector<JsonKey> keys) {
  const JsonKey common[] = {
      {"architectures", ReadElsewhere{}},
      {"model_type", ReadElsewhere{}},
      {"vocab_size", &M::vocab_size, true},
      {"tie_word_embeddings", &M::tie_word_embeddings},
      {"initializer_range", &M::initializer_range},
      // Null is no such token, where a missing key means the family's usual one.
      {"bos_token_id", [](M& c, const JsonValue& v) { set_id(c.bos_token_id, v); }, false,
       [](M& c) { c.bos_token_id.reset(); }},
      {"eos_token_id", set_end_ids, false, [](M& c) { c.eos_token_ids.clear(); }},
      {"pad_token_id", [](M& c, const JsonValue& v) { set_id(c.pad_token_id, v); }, false,
       [](M& c) { c.pad_token_id.reset(); }},
      {"torch_dtype", set_dtype},
      {"dtype", set_dtype},
      {"quantization_config", set_quantisation},
      {"is_causal",
       [](M&, const JsonValue& v) {
         if (!v.boolean()) v.fail("true: nothing else is supported");
       }},
      {"per_layer_config", set_layers_apart},
  };
  keys.insert(keys.end(), std::begin(common), std::end(common));
  return keys;
}

// Families with rotary positions; config_json.cpp reads the settings, whose two spellings interleave.
std::vector<JsonKey> with_rope(std::vector<JsonKey> keys) {
  for (const char* name : {"rope_theta", "rope_scaling", "rope_parameters", "original_max_position_embeddings"})
    keys.push_back({name, ReadElsewhere{}});
  return keys;
}

std::vector<JsonKey> with_llama(std::vector<JsonKey> more) {
  const JsonKey llama[] = {
      {"hidden_size", &M::hidden_size, true},
      {"intermediate_size", &M::intermediate_size, true},
      {"num_hidden_layers", &M::num_hidden_layers, true},
      {"num_attention_heads", &M::num_attention_heads, true},
      // Null means as many as query heads, a missing key the family's usual number.
      {"num_key_value_heads", &M::num_key_value_heads, false, [](M& c) { c.num_key_value_heads = 0; }},
      {"head_dim", &M::head_dim},
      {"max_position_embeddings", &M::max_position_embeddings},
      {"hidden_act", set_activation},
      {"rms_norm_eps", &M::norm_eps},
  };
  more.insert(more.begin(), std::begin(llama), std::end(llama));
  return with_rope(with_common(std::move(more)));
}

ModelConfig llama_defaults(int64_t max_position_embeddings, double norm_eps) {
  ModelConfig d;
  d.hidden_act = "silu";
  d.norm_eps = norm_eps;
  d.max_position_embeddings = max_position_embeddings;
  d.rotary_dim = -1;
  return d;
}

JsonKey attention_bias_key() {
  return {"attention_bias", [](M& c, const JsonValue& v) { c.attention_bias = c.attention_output_bias = v.boolean(); }};
}

void set_windows(ModelConfig& c, int64_t window, const std::function<bool(int64_t layer)>& has_window) {
  c.layer_window.clear();
  // A number of layers that validate() will refuse is not allocated.
  if (window == 0 || c.num_hidden_layers < 1 || c.num_hidden_layers > ModelConfig::kMostLayers) return;
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer)
    c.layer_window.push_back(has_window(layer) ? window : 0);
}

int64_t largest_window(const ModelConfig& c) {
  return c.layer_window.empty() ? 0 : *std::max_element(c.layer_window.begin(), c.layer_window.end());
}

nlohmann::ordered_json whole_number(double value) {
  const double whole = std::round(value);
  if (std::abs(value - whole) > 1e-6 * std::abs(whole) || std::abs(whole) > 0x1p53) return value;
  return static_cast<int64_t>(whole);
}

void write_window(const ModelConfig& c, nlohmann::ordered_json& root) {
  root["sliding_window"] = nullptr;  // where the key is missing, some families assume a window
  if (const int64_t window = largest_window(c); window > 0) root["sliding_window"] = window;
}

void write_layer_types(const ModelConfig& c, nlohmann::ordered_json& root) {
  if (largest_window(c) == 0) return;
  auto types = nlohmann::ordered_json::array();
  for (const int64_t window : c.layer_window) types.push_back(window > 0 ? "sliding_attention" : "full_attention");
  root["layer_types"] = types;
}

int64_t read_window(const ModelConfig& c, const nlohmann::json& root, const char* key, int64_t fallback) {
  const auto found = root.find(key);
  if (found == root.end() || found->is_null()) return found == root.end() ? fallback : 0;
  const JsonValue value(*found, c.source, key);
  const int64_t window = value.integer();
  if (window < 1) value.fail("a number of tokens, or null for no window");
  return window;
}

bool read_layer_types(ModelConfig& c, const nlohmann::json& root, int64_t window) {
  const auto found = root.find("layer_types");
  if (found == root.end() || found->is_null()) return false;
  const JsonValue types(*found, c.source, "layer_types");
  const nlohmann::json& list = types.raw();
  bool valid = list.is_array() && static_cast<int64_t>(list.size()) == c.num_hidden_layers;
  for (size_t i = 0; valid && i < list.size(); ++i)
    valid = list[i] == "full_attention" || (list[i] == "sliding_attention" && window > 0);
  if (!valid)
    types.fail(fmt::format("full_attention{} for each of {} layers", window > 0 ? " or sliding_attention" : "",
                           c.num_hidden_layers));
  set_windows(c, window, [&](int64_t layer) { return list[static_cast<size_t>(layer)] == "sliding_attention"; });
  return true;
}

void write_query_scalar(const ModelConfig& c, nlohmann::ordered_json& root) {
  const double scalar = c.attention_scale > 0.0 ? std::pow(c.attention_scale, -2.0) : static_cast<double>(c.head_dim);
  root["query_pre_attn_scalar"] = whole_number(scalar);
}

void read_decimal(const GgufFile& file, const std::string& key, double& field) {
  const auto value = file.get<double>(key);
  if (!value) return;
  const std::string shortest = fmt::format("{}", static_cast<float>(*value));
  double meant = *value;
  std::from_chars(shortest.data(), shortest.data() + shortest.size(), meant);
  field = meant;
}

JsonKey query_scalar_key() {
  return {"query_pre_attn_scalar", [](M& c, const JsonValue& v) {
            if (v.number() <= 0.0) v.fail("a number above 0");
            c.attention_scale = 1.0 / std::sqrt(v.number());
          }};
}

}  // namespace lathe
