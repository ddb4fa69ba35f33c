// A ModelConfig out of GGUF metadata (specification: ggml repository, docs/gguf.md, "LLM"), and out of the tensors that
// are there: a bias, a head of its own and the divisors of the rotary frequencies have no metadata.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <unordered_set>

#include "config/family_keys.h"
#include "config/model_config.h"
#include "formats/gguf.h"
#include "formats/most_common.h"
#include "formats/quote.h"

namespace lathe {
namespace {

class Reader {
 public:
  Reader(const GgufFile& file, std::string architecture) : file_(file), prefix_(std::move(architecture) + ".") {}

  // `<architecture>.<key>`.
  template <class T>
  std::optional<T> get(const std::string& key) const {
    return file_.get<T>(prefix_ + key);
  }
  // Sets `field` where the key is there.
  template <class T, class Field>
  void read(const std::string& key, Field& field) const {
    if (const auto value = get<T>(key)) field = *value;
  }
  void read_decimal(const std::string& key, double& field) const { lathe::read_decimal(file_, name(key), field); }
  void read_decimal(const std::string& key, std::optional<double>& field) const {
    if (present(key)) read_decimal(key, field.emplace());
  }
  // A number that some files give for every layer: all must be equal.
  int64_t uniform(const std::string& key) const {
    const auto found = file_.metadata().find(prefix_ + key);
    const auto* values = found == file_.metadata().end() ? nullptr : std::get_if<std::vector<int64_t>>(&found->second);
    if (!values || values->empty()) return file_.require<int64_t>(prefix_ + key);
    check(std::all_of(values->begin(), values->end(), [&](int64_t v) { return v == values->front(); }), "config",
          "{}: metadata {} differs from layer to layer, expected one value", file_.path(), quote(prefix_ + key));
    return values->front();
  }
  bool present(const std::string& key) const { return file_.metadata().contains(name(key)); }
  std::string name(const std::string& key) const { return prefix_ + key; }
  const StoredTensor* tensor(std::string_view name) const {
    const auto& all = file_.tensors();
    const auto found = std::find_if(all.begin(), all.end(), [&](const StoredTensor& t) { return t.name == name; });
    return found == all.end() ? nullptr : &*found;
  }
  const GgufFile& file() const { return file_; }

 private:
  const GgufFile& file_;
  std::string prefix_;
};

int64_t vocab_size(const Reader& r) {
  if (const auto size = r.get<int64_t>("vocab_size")) return *size;
  const auto& metadata = r.file().metadata();
  if (const auto tokens = metadata.find("tokenizer.ggml.tokens"); tokens != metadata.end())
    if (const auto* list = std::get_if<std::vector<std::string>>(&tokens->second))
      return static_cast<int64_t>(list->size());
  const StoredTensor* table = r.tensor("token_embd.weight");
  check(table && !table->shape.empty(), "config",
        "{}: neither the metadata nor a tensor 'token_embd.weight' tells the size of the vocabulary", r.file().path());
  return table->shape[0];
}

void read_sizes(ModelConfig& c, const Reader& r) {
  c.vocab_size = vocab_size(r);
  c.hidden_size = r.uniform("embedding_length");
  c.num_hidden_layers = r.uniform("block_count");
  c.intermediate_size = r.uniform("feed_forward_length");
  c.num_attention_heads = r.uniform("attention.head_count");
  c.num_key_value_heads = r.present("attention.head_count_kv") ? r.uniform("attention.head_count_kv") : 0;
  r.read<int64_t>("attention.key_length", c.head_dim);
  const auto value_length = r.get<int64_t>("attention.value_length");
  check(!value_length || c.head_dim == 0 || *value_length == c.head_dim, "config",
        "{}: keys have {} components and values {}, expected the same number", r.file().path(), c.head_dim,
        value_length.value_or(0));
  r.read<int64_t>("context_length", c.max_position_embeddings);
  r.read_decimal("attention.layer_norm_epsilon", c.norm_eps);
  r.read_decimal("attention.layer_norm_rms_epsilon", c.norm_eps);
}

// A file without a window for the layers that have one says nothing of it: so are all published files of Mistral.
void read_windows(ModelConfig& c, const Reader& r) {
  const int64_t window = r.get<int64_t>("attention.sliding_window").value_or(0);
  if (window == 0 || c.num_hidden_layers < 1 || c.num_hidden_layers > ModelConfig::kMostLayers) return;
  c.layer_window.assign(static_cast<size_t>(c.num_hidden_layers), window);
  const auto found = r.file().metadata().find(r.name("attention.sliding_window_pattern"));
  if (found == r.file().metadata().end()) return;
  // A period n: every n-th layer sees everything.
  if (const auto* period = std::get_if<int64_t>(&found->second)) {
    check(*period >= 1, "config", "{}: metadata {} is {}, expected 1 or more", r.file().path(), quote(found->first),
          *period);
    for (int64_t layer = *period - 1; layer < c.num_hidden_layers; layer += *period)
      c.layer_window[static_cast<size_t>(layer)] = 0;
    return;
  }
  const auto* windowed = std::get_if<std::vector<bool>>(&found->second);
  check(windowed && windowed->size() == c.layer_window.size(), "config",
        "{}: metadata {} must hold one boolean for each of {} layers, or a period", r.file().path(),
        quote(found->first), c.num_hidden_layers);
  for (size_t i = 0; i < c.layer_window.size(); ++i)
    if (!(*windowed)[i]) c.layer_window[i] = 0;
}

// Layers without experts are those without a router.
void read_experts(ModelConfig& c, const Reader& r) {
  c.num_experts = r.get<int64_t>("expert_count").value_or(0);
  if (c.num_experts == 0) return;
  c.num_experts_per_tok = r.file().require<int64_t>(r.name("expert_used_count"));
  c.moe_intermediate_size = r.get<int64_t>("expert_feed_forward_length").value_or(c.intermediate_size);
  c.norm_topk_prob = r.get<bool>("expert_weights_norm").value_or(true);
  std::unordered_set<std::string_view> routers;
  for (const StoredTensor& tensor : r.file().tensors())
    if (tensor.name.ends_with(".ffn_gate_inp.weight")) routers.insert(tensor.name);
  for (int64_t layer = 0; layer < std::min(c.num_hidden_layers, ModelConfig::kMostLayers); ++layer)
    if (!routers.contains(fmt::format("blk.{}.ffn_gate_inp.weight", layer))) c.mlp_only_layers.push_back(layer);
}

void read_rope(ModelConfig& c, const Reader& r) {
  r.read_decimal("rope.freq_base", c.rope_theta);
  r.read<int64_t>("rope.dimension_count", c.rotary_dim);
  if (const auto factor = r.get<double>("rope.scale_linear"); factor && *factor != 1.0) {  // files of 2023
    c.rope_scaling = RopeScaling::linear;
    c.rope_factor = *factor;
  }
  if (const auto type = r.get<std::string>("rope.scaling.type"))
    c.rope_scaling = parse_rope_scaling(*type, r.file().path(), "rope.scaling.type");
  if (c.rope_scaling != RopeScaling::none) {
    r.read_decimal("rope.scaling.factor", c.rope_factor);
    r.read<int64_t>("rope.scaling.original_context_length", c.rope_original_max_position);
    r.read_decimal("rope.scaling.yarn_beta_fast", c.rope_beta_fast);
    r.read_decimal("rope.scaling.yarn_beta_slow", c.rope_beta_slow);
    r.read_decimal("rope.scaling.attn_factor", c.rope_attention_factor);
    r.read_decimal("rope.scaling.yarn_attn_factor", c.rope_attention_factor);
    // GGUF's factor multiplies what yarn computes by itself; the field replaces it.
    if (c.rope_attention_factor) *c.rope_attention_factor *= 0.1 * std::log(c.rope_factor) + 1.0;
  }
  if (const StoredTensor* factors = r.tensor("rope_freqs.weight")) {
    check(factors->dtype == DType::f32 && factors->shape.size() == 1, "config",
          "{}: tensor 'rope_freqs.weight' is of type {} and rank {}, expected F32 and 1", r.file().path(),
          factors->type_name, factors->shape.size());
    c.rope_frequency_factors.resize(static_cast<size_t>(factors->shape[0]));
    std::memcpy(c.rope_frequency_factors.data(), factors->data, factors->bytes);
  }
}

void read_token_ids(ModelConfig& c, const GgufFile& file) {
  c.bos_token_id = file.get<int64_t>("tokenizer.ggml.bos_token_id");
  c.pad_token_id = file.get<int64_t>("tokenizer.ggml.padding_token_id");
  c.eos_token_ids.clear();
  for (const char* key :
       {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    const auto id = file.get<int64_t>(key);
    if (id && std::find(c.eos_token_ids.begin(), c.eos_token_ids.end(), *id) == c.eos_token_ids.end())
      c.eos_token_ids.push_back(*id);
  }
}

// The type that most of the weights' bytes have, in config.json's spelling where it has one.
std::string weight_type(const GgufFile& file) {
  std::string name = most_common(file.tensors(), std::string("F32"),
                                 [](const StoredTensor& t) { return std::pair(t.type_name, t.bytes); });
  if (name == "F32") return "float32";
  if (name == "F16") return "float16";
  if (name == "BF16") return "bfloat16";
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c; });
  return name;
}

}  // namespace

ModelConfig read_config_gguf(const GgufFile& file, FamilyConfigs families) {
  const auto name = file.require<std::string>("general.architecture");
  const bool has_experts = file.get<int64_t>(name + ".expert_count").value_or(0) > 0;
  const bool all_windows = file.get<int64_t>(name + ".attention.sliding_window").value_or(0) > 0 &&
                           !file.metadata().contains(name + ".attention.sliding_window_pattern");
  const FamilyConfig& family = find_gguf_family(families, name, has_experts, all_windows, file.path());
  const Reader r(file, name);
  ModelConfig c = family.defaults;
  c.source = file.path();
  c.architecture = family.architectures.front();
  c.model_type = family.model_type();
  read_sizes(c, r);
  read_windows(c, r);
  read_experts(c, r);
  if (c.rotary_dim != 0) read_rope(c, r);
  read_token_ids(c, file);
  c.tie_word_embeddings = !r.tensor("output.weight");
  const auto bias = [&](std::initializer_list<std::string_view> names) {
    return std::any_of(names.begin(), names.end(), [&](auto n) { return r.tensor(n) != nullptr; });
  };
  c.attention_bias = bias({"blk.0.attn_q.bias", "blk.0.attn_qkv.bias"});
  c.attention_output_bias = bias({"blk.0.attn_output.bias"});
  c.mlp_bias = bias({"blk.0.ffn_up.bias", "blk.0.ffn_down.bias"});
  c.dtype = weight_type(file);
  if (family.read_gguf) family.read_gguf(c, file);
  complete_config(c, family);
  return c;
}

}  // namespace lathe
