// See adapter_file.h. Sources: peft/tuners/lora/config.py (LoraConfig), peft/tuners/lora/layer.py (Linear, Embedding,
// ParamWrapper) and peft/utils/save_and_load.py.
#include "llm/adapter_file.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "autograd/convert.h"
#include "config/model_config.h"
#include "formats/atomic_file.h"
#include "formats/json_node.h"
#include "formats/pytorch_file.h"
#include "formats/safetensors.h"
#include "formats/strict_json.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using Kind = AdaptableModule::Kind;

const std::string kConfigFile = "adapter_config.json", kWeightsFile = "adapter_model.safetensors";
const std::string kPrefix = "base_model.model.";  // of every tensor's name
const std::string kFingerprint = "base_fingerprint";

// ---- adapter_config.json ----

// A list of names, or a regular expression; "all-linear" in any case of letters.
void read_names(const OrderedJsonNode& root, const char* key, std::vector<std::string>& names, std::string& pattern) {
  if (!root.has(key)) return;
  const OrderedJsonNode node = root.at(key);
  if (node.value().is_string()) {
    pattern = node.string();
    std::string lower = pattern;
    for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (lower == "all-linear") pattern = lower;
    if (pattern.empty()) node.expected("a name");
    return;
  }
  for (size_t i = 0; i < node.size(); ++i) names.push_back(node.at(i).string());
}

void read_layers(const OrderedJsonNode& root, AdapterConfig& config) {
  if (root.has("layers_to_transform")) {
    const OrderedJsonNode node = root.at("layers_to_transform");
    if (node.value().is_number()) config.layers.push_back(node.integer(0));
    for (size_t i = 0; node.value().is_array() && i < node.size(); ++i) config.layers.push_back(node.at(i).integer(0));
  }
  std::string name;
  read_names(root, "layers_pattern", config.layer_names, name);
  if (!name.empty()) config.layer_names.push_back(name);
}

constexpr int64_t kLargestRank = 1 << 16;

void read_patterns(const OrderedJsonNode& root, AdapterConfig& config) {
  const auto read = [&](const char* key, auto&& add) {
    if (!root.has(key)) return;
    const OrderedJsonNode node = root.at(key);
    if (!node.value().is_object()) node.expected("an object");
    for (const auto& entry : node.value().items()) add(entry.key(), node.at(entry.key()));
  };
  read("rank_pattern", [&](const std::string& name, const OrderedJsonNode& v) {
    config.rank_pattern.emplace_back(name, v.integer(1, kLargestRank));
  });
  read("alpha_pattern",
       [&](const std::string& name, const OrderedJsonNode& v) { config.alpha_pattern.emplace_back(name, v.number()); });
}

// Keys that say nothing of the result, or nothing that the tensors do not say.
const std::set<std::string> kSilentKeys = {"auto_mapping",
                                           "base_model_name_or_path",
                                           "corda_config",
                                           "eva_config",
                                           "fan_in_fan_out",
                                           "inference_mode",
                                           "lora_ga_config",
                                           "loftq_config",
                                           "lora_dropout",
                                           "megatron_core",
                                           "peft_version",
                                           "qalora_group_size",
                                           "revision",
                                           "runtime_config",
                                           "peft_type",
                                           "task_type",
                                           "r",
                                           "lora_alpha",
                                           "use_rslora",
                                           "target_modules",
                                           "exclude_modules",
                                           "target_parameters",
                                           "layers_pattern",
                                           "rank_pattern",
                                           "alpha_pattern",
                                           "layers_to_transform",
                                           "bias",
                                           "init_lora_weights"};

bool says_nothing(const Json& v) {
  if (v.is_string()) return v.get_ref<const std::string&>().empty();
  return v.is_null() || v == false || ((v.is_array() || v.is_object()) && v.empty());
}

// What is not honoured: PEFT's other methods, and initialisations that change the weights of the base.
void refuse_others(const OrderedJsonNode& root) {
  for (const auto& entry : root.value().items())
    if (!kSilentKeys.contains(entry.key()) && !says_nothing(entry.value()))
      root.fail(fmt::format("{} is {}, which is not supported", entry.key(), entry.value().dump()),
                "an adapter of plain LoRA has none");
  const auto expect = [&](const char* key, const std::set<std::string>& allowed) {
    if (root.has(key) && !allowed.contains(root.at(key).value().dump()))
      root.fail(fmt::format("{} is {}, which is not supported", key, root.at(key).value().dump()));
  };
  expect("peft_type", {R"("LORA")"});
  expect("task_type", {R"("CAUSAL_LM")"});
  expect("bias", {R"("none")"});
  expect("init_lora_weights", {"true", "false", R"("gaussian")", R"("eva")", R"("orthogonal")"});
}

AdapterConfig read_config(const OrderedJsonNode& root) {
  refuse_others(root);
  AdapterConfig c;
  c.rank = root.at("r").integer(1, kLargestRank);
  c.alpha = root.at("lora_alpha").number();
  if (root.has("lora_dropout")) c.dropout = root.at("lora_dropout").number();
  if (!(c.dropout >= 0.0 && c.dropout < 1.0)) root.at("lora_dropout").expected("a number of at least 0 and below 1");
  c.rank_stabilised = root.boolean_or("use_rslora", false);
  read_names(root, "target_modules", c.targets, c.pattern);
  read_names(root, "exclude_modules", c.excluded, c.excluded_pattern);
  std::string one;
  read_names(root, "target_parameters", c.parameters, one);
  if (!one.empty()) root.at("target_parameters").expected("a list of names");
  read_layers(root, c);
  read_patterns(root, c);
  return c;
}

Json names_as_json(const std::vector<std::string>& names, const std::string& pattern) {
  return !pattern.empty() ? Json(pattern) : names.empty() ? Json() : Json(names);
}

Json number_as_json(double x) {
  return x == static_cast<double>(static_cast<int64_t>(x)) ? Json(static_cast<int64_t>(x)) : Json(x);
}

std::string config_text(const Adapter& adapter, const AdapterBase& base) {
  const AdapterConfig& c = adapter.config;
  bool transposed = false;
  for (const AdaptedModule& m : adapter.modules) transposed = transposed || m.module.transposed;
  const Json root = {{"peft_type", "LORA"},
                     {"task_type", "CAUSAL_LM"},
                     {"base_model_name_or_path", base.name},
                     {"inference_mode", true},
                     {"r", c.rank},
                     {"lora_alpha", number_as_json(c.alpha)},
                     {"lora_dropout", c.dropout},
                     {"target_modules", names_as_json(c.targets, c.pattern)},
                     {"target_parameters", names_as_json(c.parameters, {})},
                     {"bias", "none"},
                     {"fan_in_fan_out", transposed},
                     {"use_rslora", c.rank_stabilised},
                     {"init_lora_weights", true}};
  return root.dump(2) + "\n";
}

// ---- the names and forms of tensors ----

struct TensorNames {
  std::string a, b, table;  // `table`: the base's own, which PEFT writes beside changes of tables and heads
};

// Where two parameters of a module have changes, PEFT wraps one wrapper into another: down_proj is the outer one.
TensorNames tensor_names(const Adapter& adapter, const AdaptableModule& m) {
  if (m.kind == Kind::table)
    return {m.name + ".lora_embedding_A", m.name + ".lora_embedding_B", m.name + ".base_layer.weight"};
  std::string name = m.name;
  if (m.kind == Kind::experts) {
    name.resize(name.rfind('.'));
    const bool both = std::any_of(adapter.modules.begin(), adapter.modules.end(), [&](const AdaptedModule& other) {
      return other.module.name == name + ".down_proj" && other.module.name != m.name;
    });
    if (both) name += ".base_layer";
  }
  return {name + ".lora_A.weight", name + ".lora_B.weight", m.is_head ? m.name + ".base_layer.weight" : ""};
}

Tensor turned(const Tensor& x) {  // (m, n) -> (n, m)
  Tensor y = Tensor::empty({x.dim(1), x.dim(0)});
  for (int64_t i = 0; i < x.dim(0); ++i)
    for (int64_t j = 0; j < x.dim(1); ++j) y.host<float>()[j * x.dim(0) + i] = x.host<float>()[i * x.dim(1) + j];
  return y;
}

// Rows of B lie as files have those of the weight, which may be turned where B is not.
WeightMapping mapping_of_rows(const CausalLM& model) {
  WeightMapping mapping = mapping_of_modules(model);
  for (MappingRule& rule : mapping.rules) rule.transposed = false;
  return mapping;
}

// Copies experts' matrices into, or out of, the two of PEFT: A (E r, in) has one expert's rows after another; column
// k E + e of B (out, r E) is column k of expert e's, whose parts' rows follow one another.
template <class F>
void for_expert_elements(const AdaptedModule& m, const Tensor& a, const Tensor& b, F&& f) {
  const auto experts = std::ssize(m.a), parts = std::ssize(m.b) / experts;
  const int64_t rank = m.a[0].shape[0], in = m.a[0].shape[1];
  for (int64_t e = 0; e < experts; ++e) {
    for (int64_t i = 0; i < rank * in; ++i)
      f(a.host<float>()[e * rank * in + i], m.a[static_cast<size_t>(e)].value.host<float>()[i]);
    int64_t row = 0;
    for (int64_t p = 0; p < parts; ++p) {
      const Parameter& part = m.b[static_cast<size_t>(e * parts + p)];
      for (int64_t o = 0; o < part.shape[0]; ++o, ++row)
        for (int64_t k = 0; k < rank; ++k)
          f(b.host<float>()[(row * rank + k) * experts + e], part.value.host<float>()[o * rank + k]);
    }
  }
}

// The shapes of A and B as files have them.
std::pair<Shape, Shape> stored_shapes(const AdaptedModule& m) {
  const Shape &a = m.a[0].shape, &b = m.b[0].shape;
  if (m.module.kind == Kind::table) return {{a[1], a[0]}, b};
  const auto experts = std::ssize(m.a);
  int64_t out = 0;
  for (const Parameter& part : m.b) out += part.shape[0];
  return {{experts * a[0], a[1]}, {out / experts, experts * b[1]}};
}

// ---- adapter_model.safetensors ----

class AdapterTensors {
 public:
  AdapterTensors(std::vector<StoredTensor> tensors, std::string path) : path_(std::move(path)) {
    for (StoredTensor& t : tensors) by_name_.emplace(t.name, std::move(t));
    // PEFT's prefix; names without it are those of programs that write what PEFT would have loaded.
    if (std::none_of(by_name_.begin(), by_name_.end(), [](auto& t) { return t.first.starts_with(kPrefix); }))
      prefix_.clear();
  }
  // Whether the names lack what the headless model's lack.
  bool is_bare(const std::string& base_prefix) const {
    return !base_prefix.empty() && std::none_of(by_name_.begin(), by_name_.end(),
                                                [&](auto& t) { return t.first.starts_with(prefix_ + base_prefix); });
  }
  // f32, of that shape.
  Tensor take(const std::string& name, const Shape& shape) {
    const auto found = by_name_.find(prefix_ + name);
    check(found != by_name_.end(), "adapter", "{} lacks the tensor {}", path_, prefix_ + name);
    const StoredTensor t = found->second;
    check(t.dtype == DType::f32 || t.dtype == DType::f16 || t.dtype == DType::bf16, "adapter",
          "{}: {} is {}, expected F32, F16 or BF16", path_, quote(t.name), t.type_name);
    const Shape found_shape(t.shape.begin(), t.shape.end());
    check(found_shape == shape, "adapter", "{}: {} is {}, expected {}", path_, quote(t.name), found_shape, shape);
    by_name_.erase(found);
    return convert(Tensor::wrap(t.data, shape, *t.dtype, t.file), DType::f32, t.name).clone();
  }
  bool has(const std::string& name) const { return by_name_.contains(prefix_ + name); }
  void check_all_used() const {
    if (by_name_.empty()) return;
    throw Error(fmt::format("adapter: {} has the tensor {}{}, which no target of {} stands for", path_,
                            quote(by_name_.begin()->first),
                            by_name_.size() > 1 ? fmt::format(" and {} more", by_name_.size() - 1) : "", kConfigFile));
  }

 private:
  std::string path_, prefix_ = kPrefix;
  std::map<std::string, StoredTensor> by_name_;
};

void set_values(AdaptedModule& m, const Tensor& a, const Tensor& b, const WeightMapping& mapping_of_rows) {
  if (m.module.kind == Kind::experts) {
    for (Parameter& p : m.a) p.value = Tensor::empty(p.shape);
    for (Parameter& p : m.b) p.value = Tensor::empty(p.shape);
    return for_expert_elements(m, a, b, [](float stored, float& value) { value = stored; });
  }
  m.a[0].value = m.module.kind == Kind::table ? turned(a) : a;
  if (m.b.size() == 1) {
    m.b[0].value = b;
    return;
  }
  std::vector<NamedParameter> parts;
  for (size_t i = 0; i < m.b.size(); ++i) parts.push_back({m.module.weights[i].name, &m.b[i]});
  const auto* bytes = static_cast<const uint8_t*>(b.raw());
  load_parameters(parts, {{m.module.tensor, DType::f32, "F32", {b.dim(0), b.dim(1)}, bytes, b.bytes(), nullptr}},
                  mapping_of_rows, m.module.name);
  for (Parameter& part : m.b) part.value = part.value.clone();  // of the rows of `b`
}

Tensor joined_rows(const AdaptedModule& m, const WeightMapping& mapping_of_rows) {
  if (m.b.size() == 1) return m.b[0].value;
  std::vector<std::pair<std::string, Tensor>> parts;
  for (size_t i = 0; i < m.b.size(); ++i) parts.emplace_back(m.module.weights[i].name, m.b[i].value);
  return to_checkpoint(parts, mapping_of_rows)[0].second;
}

bool equal(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

std::vector<StoredTensor> read_weights(const fs::path& folder, std::string& path,
                                       std::map<std::string, std::string>& metadata) {
  path = (folder / kWeightsFile).string();
  const fs::path pickled = folder / "adapter_model.bin";
  if (fs::exists(path) || !fs::exists(pickled)) return read_safetensors(path, &metadata);
  path = pickled.string();
  return read_pytorch_file(path);
}

}  // namespace

AdapterBase read_adapter(CausalLM& model, const std::string& folder,
                         const std::function<Tensor(const std::string& name)>& stored_table) {
  const std::string config_path = (fs::path(folder) / kConfigFile).string();
  const auto file = MappedFile::open(config_path);
  const auto bytes = file->bytes();
  const Json json = parse_ordered_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, config_path);
  const OrderedJsonNode root(json, config_path, ": ");
  AdapterConfig config = read_config(root);
  std::string path;
  std::map<std::string, std::string> metadata;
  AdapterTensors tensors(read_weights(folder, path, metadata), path);
  config.bare = tensors.is_bare(mapping_of_modules(model).base_prefix);
  attach_adapter(model, config, config_path + ": target_modules");
  const WeightMapping rows = mapping_of_rows(model);
  for (AdaptedModule& m : model.adapter->modules) {
    const TensorNames names = tensor_names(*model.adapter, m.module);
    const auto [a, b] = stored_shapes(m);
    const Tensor value_of_a = tensors.take(names.a, a);
    set_values(m, value_of_a, tensors.take(names.b, b), rows);
    if (names.table.empty() || !tensors.has(names.table)) continue;
    const NamedParameter& weight = m.module.weights[0];
    if (!equal(tensors.take(names.table, weight.parameter->shape), stored_table(weight.name)))
      throw Error(fmt::format("adapter: {}: {} is another table than the model's", path, quote(names.table)),
                  "tables that were trained whole or resized are not supported: save_embedding_layers=False leaves "
                  "them out");
  }
  tensors.check_all_used();
  return {root.string_or("base_model_name_or_path", ""), metadata[kFingerprint]};
}

void write_adapter(const CausalLM& model, const AdapterBase& base, const std::string& target) {
  const Adapter& adapter = *model.adapter;
  const WeightMapping rows = mapping_of_rows(model);
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const AdaptedModule& m : adapter.modules) {
    const TensorNames names = tensor_names(adapter, m.module);
    Tensor a = m.module.kind == Kind::table ? turned(m.a[0].value) : m.a[0].value, b;
    if (m.module.kind == Kind::experts) {
      const auto [shape_of_a, shape_of_b] = stored_shapes(m);
      a = Tensor::empty(shape_of_a), b = Tensor::empty(shape_of_b);
      for_expert_elements(m, a, b, [](float& stored, float value) { stored = value; });
    } else {
      b = joined_rows(m, rows);
    }
    tensors.emplace_back(kPrefix + names.a, a);
    tensors.emplace_back(kPrefix + names.b, b);
  }
  AtomicFolder folder(target);
  AtomicFile config((fs::path(folder.path()) / kConfigFile).string());
  config.write(config_text(adapter, base));
  config.commit();
  write_safetensors((fs::path(folder.path()) / kWeightsFile).string(), tensors,
                    {{"format", "pt"}, {kFingerprint, base.fingerprint}});
  folder.commit();
}

}  // namespace lathe
