// See config_families.h. Defaults and spellings are those of the configuration classes of transformers 4 and 5
// (configuration_<model_type>.py). A new family hands its entry to `add_config_family`, from its own file.
#include "config/config_families.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "config/family_tables.h"
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

ConfigFamily llama() {
  ConfigFamily family{"llama", {"LlamaForCausalLM"}, llama_defaults(2048), {}};
  family.defaults.bos_token_id = 1;
  family.defaults.eos_token_ids = {2};
  family.json_keys = with_llama({attention_bias_key(), {"mlp_bias", &M::mlp_bias}});
  return family;
}

ConfigFamily gpt2() {
  // GPT2Model: published files of the bare model; the head is the embedding table.
  ConfigFamily family{"gpt2", {"GPT2LMHeadModel", "GPT2Model"}, {}, {}};
  ModelConfig& d = family.defaults;
  d.hidden_act = "gelu_new";
  d.norm_eps = 1e-5;
  d.max_position_embeddings = 1024;
  d.tie_word_embeddings = true;
  d.attention_bias = d.attention_output_bias = d.mlp_bias = true;
  d.bos_token_id = 50256;
  d.eos_token_ids = {50256};
  family.json_keys = with_common({
      // Of the first files; where n_positions is, it decides.
      {"n_ctx", [](M& c, const JsonValue& v) { c.max_position_embeddings = v.integer(); }},
      // As other families spell them, which transformers takes too.
      {"hidden_size", &M::hidden_size},
      {"num_hidden_layers", &M::num_hidden_layers},
      {"num_attention_heads", &M::num_attention_heads},
      {"max_position_embeddings", &M::max_position_embeddings},
      {"n_embd", &M::hidden_size, true},
      {"n_inner", &M::intermediate_size},
      {"n_layer", &M::num_hidden_layers, true},
      {"n_head", &M::num_attention_heads, true},
      {"n_positions", &M::max_position_embeddings},
      {"activation_function", set_activation},
      {"layer_norm_epsilon", &M::norm_eps},
      {"scale_attn_weights", OnlyValue{true}},
      {"scale_attn_by_inverse_layer_idx", OnlyValue{false}},
      {"add_cross_attention", OnlyValue{false}},
  });
  return family;
}

// The feed-forward width where the file leaves it out or says null. A width that validate() will refuse is not
// multiplied: it might overflow.
void derive_width(ModelConfig& c) {
  const bool plausible = c.hidden_size > 0 && c.hidden_size < (int64_t{1} << 40);
  if (c.model_type == "gpt2" && c.intermediate_size == 0 && plausible) c.intermediate_size = 4 * c.hidden_size;
}

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

JsonKey query_scalar_key() {
  return {"query_pre_attn_scalar", [](M& c, const JsonValue& v) {
            if (v.number() <= 0.0) v.fail("a number above 0");
            c.attention_scale = 1.0 / std::sqrt(v.number());
          }};
}

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

namespace {

std::deque<ConfigFamily>& all_families() {
  static std::deque<ConfigFamily> families = {
      llama(),         gpt2(),         mistral_family(),   mixtral_family(),
      qwen2_family(),  qwen3_family(), qwen3_moe_family(), gpt_neox_family(),
      falcon_family(), mpt_family(),   gemma3_family(),    olmo2_family(),
      qwen1_family(),
  };
  return families;
}

}  // namespace

const std::deque<ConfigFamily>& config_families() { return all_families(); }

void add_config_family(ConfigFamily family) { all_families().push_back(std::move(family)); }

const ConfigFamily& find_config_family(const std::string& architecture, const std::string& model_type,
                                       const std::string& source) {
  std::vector<std::string> known;
  for (const ConfigFamily& family : config_families()) {
    const auto& names = architecture.empty() ? family.former_model_types : family.architectures;
    const std::string& wanted = architecture.empty() ? model_type : architecture;
    if (std::find(names.begin(), names.end(), wanted) != names.end() ||
        (architecture.empty() && family.model_type == model_type))
      return family;
    if (architecture.empty())
      known.push_back(family.model_type);
    else
      known.insert(known.end(), family.architectures.begin(), family.architectures.end());
  }
  check(!architecture.empty() || !model_type.empty(), "config",
        "{}: neither the architecture nor the model type is named, expected one of {}", source, fmt::join(known, ", "));
  throw Error(fmt::format("config: {}: the {} {} is not known, expected one of {}", source,
                          architecture.empty() ? "model type" : "architecture",
                          quote(architecture.empty() ? model_type : architecture), fmt::join(known, ", ")));
}

const ConfigFamily& find_gguf_family(const std::string& architecture, bool has_experts, bool all_windows,
                                     const std::string& source) {
  std::vector<std::string> known;
  const ConfigFamily* first = nullptr;
  for (const ConfigFamily& family : config_families()) {
    const bool experts = family.defaults.num_experts > 0;
    known.push_back(family.gguf_name() + (experts ? " with experts" : ""));
    if (family.gguf_name() != architecture || experts != has_experts) continue;
    if (family.gguf_all_windows == all_windows) return family;
    if (first == nullptr) first = &family;
  }
  if (first != nullptr) return *first;
  throw Error(fmt::format("config: {}: the architecture {}{} is not known, expected one of {}", source,
                          quote(architecture), has_experts ? " with experts" : "", fmt::join(known, ", ")));
}

const std::vector<NamedField>& config_fields() {
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

void complete_config(ModelConfig& c) {
  if (c.num_key_value_heads == 0) c.num_key_value_heads = c.num_attention_heads;
  if (c.head_dim == 0 && c.num_attention_heads > 0) {
    check(c.hidden_size % c.num_attention_heads == 0, "config",
          "{}: hidden_size {} is no multiple of num_attention_heads {}, and no head_dim is named", c.source,
          c.hidden_size, c.num_attention_heads);
    c.head_dim = c.hidden_size / c.num_attention_heads;
  }
  if (c.alibi) c.rotary_dim = 0;
  if (c.rotary_dim < 0) c.rotary_dim = c.head_dim;
  derive_width(c);
  if (c.num_experts > 0 && c.moe_intermediate_size == 0) c.moe_intermediate_size = c.intermediate_size;
  if (c.rope_original_max_position == 0 &&
      (c.rope_scaling == RopeScaling::dynamic || c.rope_scaling == RopeScaling::yarn ||
       c.rope_scaling == RopeScaling::longrope))
    c.rope_original_max_position = c.max_position_embeddings;
  validate(c);
}

}  // namespace lathe
