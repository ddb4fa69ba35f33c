// FamilyConfig: what readers and writers of configurations are told of a family: its names, what its files leave out,
// how config.json and GGUF spell it. It is the part of a family's description (llm/family.h) that this folder needs;
// whoever reads a configuration hands in the families to choose from.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "config/model_config.h"
#include "config/published_models.h"
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

struct FamilyConfig {
  std::string name;                            // "llama"; of the family's file and of its function in the registry
  std::vector<std::string> architectures;      // class names in config.json; the first is what a file without one means
  std::vector<std::string> model_types;        // in config.json; the first is the one that is written
  std::string gguf_architecture = {};          // `general.architecture` in GGUF where it is not the model type
  std::vector<std::string> variants = {};      // what users know it by: "Llama 2", "Code Llama"
  std::vector<std::string> capabilities = {};  // "completion", "chat", "embeddings": what its checkpoints are made for
  std::vector<PublishedModels> published = {};  // short names of its checkpoints

  ModelConfig defaults = {};            // what its files leave out; rotary_dim -1: all of the head
  std::vector<JsonKey> json_keys = {};  // in order: of two that set the same field the later one wins
  double rotated_share = 1.0;           // of each head, where config.json says nothing
  int64_t net_width = 0;                // intermediate_size in multiples of C, where no file says it; 0: a file must
  bool gguf_all_windows = false;  // of those that share the GGUF name, this one is meant where all layers have a window

  // What several keys of config.json decide together: set after all of them have been read; null: nothing.
  void (*read_together)(ModelConfig& config, const nlohmann::json& root) = nullptr;
  // The way back, for exports: adds to config.json, or replaces, what read_together and the keys' own functions read;
  // what fields and common keys say (config_export.cpp) is there already.
  void (*write_together)(const ModelConfig& config, nlohmann::ordered_json& root) = nullptr;
  // Sets what only this family's GGUF files say, after what all of them say; null: nothing.
  void (*read_gguf)(ModelConfig& config, const GgufFile& file) = nullptr;
  // The way back: adds to the metadata, or replaces or removes, what read_gguf reads.
  void (*write_gguf)(const ModelConfig& config, GgufKeys& keys) = nullptr;
  // Fields that decide only what lies beyond the trained context and that GGUF of the family leaves out: lost with a
  // warning.
  std::vector<std::string> lost_beyond_context = {};

  const std::string& model_type() const { return model_types.front(); }
  const std::string& gguf_name() const { return gguf_architecture.empty() ? model_type() : gguf_architecture; }
};

// By architecture, by model type where that is empty. Throws Error that lists the known ones.
const FamilyConfig& find_family(FamilyConfigs families, const std::string& architecture, const std::string& model_type,
                                const std::string& source);

// By `general.architecture` of a GGUF file, which several families may share: the one with experts or without, and of
// several the one with windows in all layers or without. Throws Error that lists the known ones.
const FamilyConfig& find_gguf_family(FamilyConfigs families, const std::string& architecture, bool has_experts,
                                     bool all_windows, const std::string& source);

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
void complete_config(ModelConfig& config, const FamilyConfig& family);

}  // namespace lathe
