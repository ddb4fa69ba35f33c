// What the readers of configurations know of each family: names, what its files leave out, how config.json spells it.
#pragma once
#include <deque>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "config/model_config.h"
#include "tensor/errors.h"

namespace lathe {

class GgufKeys;  // config_export.h

// A value of config.json and where it stands, for messages.
class JsonValue {
 public:
  JsonValue(const nlohmann::json& value, const std::string& source, std::string key)
      : value_(value), source_(source), key_(std::move(key)) {}

  const nlohmann::json& raw() const { return value_; }
  const std::string& key() const { return key_; }
  // Each throws Error naming source, key and value when the value is something else.
  int64_t integer() const;
  double number() const;
  bool boolean() const;
  std::string text() const;
  std::vector<int64_t> integers() const;
  std::vector<double> numbers() const;
  const std::string& where() const { return source_; }
  [[noreturn]] void fail(std::string_view expected, const std::string& hint = {}) const;

 private:
  const nlohmann::json& value_;
  const std::string& source_;
  std::string key_;
};

// The name in config.json and YAML ("default", "linear", ...); throws Error that lists the known ones.
RopeScaling parse_rope_scaling(const std::string& name, const std::string& source, const std::string& key);

// What a key sets.
using FieldPointer =
    std::variant<int64_t ModelConfig::*, double ModelConfig::*, bool ModelConfig::*, std::string ModelConfig::*,
                 std::optional<int64_t> ModelConfig::*, std::optional<double> ModelConfig::*,
                 std::vector<int64_t> ModelConfig::*, std::vector<double> ModelConfig::*, RopeScaling ModelConfig::*>;
// Sets the field to a value of a JSON or YAML file; throws Error where the value is of another type.
template <class Value>
void set_field(ModelConfig& config, const FieldPointer& field, const Value& value) {
  struct Visitor {
    ModelConfig& c;
    const Value& v;
    void operator()(int64_t ModelConfig::*f) const { c.*f = v.integer(); }
    void operator()(double ModelConfig::*f) const { c.*f = v.number(); }
    void operator()(bool ModelConfig::*f) const { c.*f = v.boolean(); }
    void operator()(std::string ModelConfig::*f) const { c.*f = v.text(); }
    void operator()(std::optional<int64_t> ModelConfig::*f) const { c.*f = v.integer(); }
    void operator()(std::optional<double> ModelConfig::*f) const { c.*f = v.number(); }
    void operator()(std::vector<int64_t> ModelConfig::*f) const { c.*f = v.integers(); }
    void operator()(std::vector<double> ModelConfig::*f) const { c.*f = v.numbers(); }
    void operator()(RopeScaling ModelConfig::*f) const { c.*f = parse_rope_scaling(v.text(), v.where(), v.key()); }
  };
  std::visit(Visitor{config, value}, field);
}

using Setter = void (*)(ModelConfig&, const JsonValue&);
// A key whose other value would make a model that the library does not have.
struct OnlyValue {
  bool value;
  bool operator==(const OnlyValue&) const = default;
};
// A known key that is read elsewhere: by the family's `read_together`, or with the rope settings (config_json.cpp).
struct ReadElsewhere {
  bool operator==(const ReadElsewhere&) const = default;
};

struct JsonKey {
  std::string name;
  std::variant<FieldPointer, Setter, OnlyValue, ReadElsewhere> meaning;
  bool required = false;
  // What null sets, where it means something else than a key that is not there.
  void (*null_sets)(ModelConfig& config) = nullptr;
};

struct ConfigFamily {
  std::string model_type;                  // "llama": in config.json, and `general.architecture` in GGUF
  std::vector<std::string> architectures;  // class names; the first is what a file without one means
  ModelConfig defaults;                    // what its files leave out; rotary_dim -1: all of the head
  std::vector<JsonKey> json_keys;          // in order: of two that set the same field the later one wins
  std::string gguf_architecture = {};      // `general.architecture` in GGUF where it is not the model type
  bool gguf_all_windows = false;  // of those that share the name, this one is meant where all layers have a window
  // Sets what several keys of config.json decide together, after all of them have been read; null: nothing.
  void (*read_together)(ModelConfig& config, const nlohmann::json& root) = nullptr;
  // Sets what only this family's GGUF files say, after what all of them say; null: nothing.
  void (*read_gguf)(ModelConfig& config, const GgufFile& file) = nullptr;
  std::vector<std::string> former_model_types = {};  // of older files
  // The ways back, for exports; null: nothing. What they leave out is found when the result is read again.
  // Adds to config.json, or replaces, what read_together and the keys' own functions read; what fields and common keys
  // say (config_export.cpp) is there already.
  void (*write_together)(const ModelConfig& config, nlohmann::ordered_json& root) = nullptr;
  // Adds to the metadata, or replaces or removes, what read_gguf reads; what all families' files say is there already.
  void (*write_gguf)(const ModelConfig& config, GgufKeys& keys) = nullptr;
  // Fields that decide only what lies beyond the trained context and that GGUF of the family leaves out: lost with a
  // warning.
  std::vector<std::string> lost_beyond_context = {};
  double rotated_share = 1.0;  // of each head, where config.json says nothing

  const std::string& gguf_name() const { return gguf_architecture.empty() ? model_type : gguf_architecture; }
};

// A deque, because references to its entries outlive the arrival of another one.
const std::deque<ConfigFamily>& config_families();
// One more: of a family whose file in llm/ or whose plugin describes it whole. Not while another thread reads one.
void add_config_family(ConfigFamily family);
// By architecture, by model_type where that is empty. Throws Error that lists the known ones.
const ConfigFamily& find_config_family(const std::string& architecture, const std::string& model_type,
                                       const std::string& source);

// By `general.architecture` of a GGUF file, which several families may share: the one with experts or without, and of
// several the one with windows in all layers or without. Throws Error that lists the known ones.
const ConfigFamily& find_gguf_family(const std::string& architecture, bool has_experts, bool all_windows,
                                     const std::string& source);

// Keeps a key of `object` that nobody reads, `place` before its name, and notes which of the `known` names that the
// object lacks it may be a misspelling of.
void keep_unknown(ModelConfig& config, const std::string& place, const std::string& key, const nlohmann::json& object,
                  std::vector<std::string> known);
std::vector<std::string> names_of(const std::vector<JsonKey>& keys);

// Null where it is absent.
nlohmann::ordered_json field_value(const ModelConfig& config, const FieldPointer& field);
bool equal_fields(const ModelConfig& a, const ModelConfig& b, const FieldPointer& field);

// Fields by name, as YAML has them.
struct NamedField {
  std::string name;
  FieldPointer field;
};
const std::vector<NamedField>& config_fields();

// Fills what follows from other fields (key-value heads, head_dim, rotary_dim, feed-forward width, the original context
// of a rope scaling), then validates.
void complete_config(ModelConfig& config);

}  // namespace lathe
