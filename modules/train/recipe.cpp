// One table says how each key of a recipe is read, bounded and written.
#include "train/recipe.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>

#include "config/nearest_name.h"
#include "config/yaml_value.h"

namespace lathe {
namespace {

// The names of an enumeration's values, in order.
std::array<const char*, 4> value_names(DataRecipe::Format) { return {"text", "completion", "chat", "preference"}; }
std::array<const char*, 2> value_names(DataRecipe::Order) { return {"shuffled", "sequential"}; }
std::array<const char*, 2> value_names(TrainingRecipe::Dtype) { return {"float32", "bfloat16"}; }
std::array<const char*, 2> value_names(TrainingRecipe::Recompute) { return {"none", "block"}; }
std::array<const char*, 3> value_names(OptimizerRecipe::Name) { return {"adamw", "sgd", "muon"}; }
std::array<const char*, 2> value_names(OptimizerRecipe::Scale) { return {"spectral", "rms"}; }
std::array<const char*, 2> value_names(OptimizerRecipe::States) { return {"float32", "int8"}; }
std::array<const char*, 4> value_names(ScheduleRecipe::Name) {
  return {"cosine", "linear", "constant", "warmup_stable_decay"};
}

void get(const YamlValue& v, std::string& x) { x = v.text(); }
void get(const YamlValue& v, bool& x) { x = v.boolean(); }
void get(const YamlValue& v, int64_t& x) { x = v.integer(); }
void get(const YamlValue& v, uint64_t& x) { x = v.as<uint64_t>("an integer of at least 0"); }
void get(const YamlValue& v, double& x) { x = v.number(); }
void get(const YamlValue& v, std::optional<double>& x) { x = v.number(); }
void get(const YamlValue& v, std::vector<std::string>& x) { x = v.texts(); }
void get(const YamlValue& v, std::vector<double>& x) { x = v.numbers(); }
template <class E>
requires std::is_enum_v<E>
void get(const YamlValue& v, E& x) {
  const auto names = value_names(x);
  const std::string name = v.text();
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) v.fail(fmt::format("one of {}", fmt::join(names, ", ")));
  x = static_cast<E>(found - names.begin());
}

// Empty: nothing is written.
std::string put(const std::string& x) { return x.empty() ? x : YAML::Dump(YAML::Node(x)); }
std::string put(bool x) { return x ? "true" : "false"; }
std::string put(int64_t x) { return fmt::format("{}", x); }
std::string put(uint64_t x) { return fmt::format("{}", x); }
std::string put(double x) { return fmt::format("{}", x); }
std::string put(const std::optional<double>& x) { return x ? put(*x) : std::string(); }
template <class T>
std::string put(const std::vector<T>& list) {
  std::string text;
  for (const T& x : list) text += (text.empty() ? "[" : ", ") + put(x);
  return text.empty() ? text : text + "]";
}
template <class E>
requires std::is_enum_v<E> std::string put(E x) { return value_names(x)[static_cast<size_t>(x)]; }

struct Key {
  std::string name;  // "training.context"
  std::function<void(Recipe&, const YamlValue&)> read;
  std::function<std::string(const Recipe&)> write;
  bool decides = true;  // what is trained on what
};

// What a number must lie in; 2^40 bounds whatever memory or time is proportional to.
struct Range {
  double lowest, highest = std::ldexp(1.0, 40);
  bool open = false;  // the lowest value is none of them
};
constexpr Range kAny{-std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity()};
const Range kCount{1}, kCountOrNone{0}, kPositive{0, 1e30, true}, kNotNegative{0, 1e30};

void check_range(const YamlValue& v, double x, Range range) {
  if (std::isfinite(x) && (range.open ? x > range.lowest : x >= range.lowest) && x <= range.highest) return;
  if (range.highest < 1e6)
    v.fail(fmt::format("{} {} and at most {}", range.open ? "above" : "at least", range.lowest, range.highest));
  v.fail(fmt::format("a number {} {}", range.open ? "above" : "of at least", range.lowest));
}

template <class T>
void get_in_range(const YamlValue& v, T& x, Range range) {
  get(v, x);
  if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) check_range(v, static_cast<double>(x), range);
  if constexpr (std::is_same_v<T, std::optional<double>>) check_range(v, *x, range);
}

template <class Section, class T>
Key key(const char* name, Section Recipe::*section, T Section::*field, Range range = kAny, bool decides = true) {
  return {name, [=](Recipe& r, const YamlValue& v) { get_in_range(v, r.*section.*field, range); },
          [=](const Recipe& r) { return put(r.*section.*field); }, decides};
}
template <class T>
Key adapter_key(const char* name, T AdapterRecipe::*field, Range range = kAny) {
  return {name,
          [=](Recipe& r, const YamlValue& v) {
            if (!r.adapter) r.adapter.emplace();
            get_in_range(v, (*r.adapter).*field, range);
          },
          [=](const Recipe& r) { return r.adapter ? put((*r.adapter).*field) : std::string(); }};
}
Key targets_key() {
  return {"adapter.targets",
          [](Recipe& r, const YamlValue& v) {
            if (!r.adapter) r.adapter.emplace();
            r.adapter->targets.clear();
            r.adapter->target_pattern.clear();
            if (v.node().IsScalar())
              r.adapter->target_pattern = v.text();
            else
              r.adapter->targets = v.texts();
          },
          [](const Recipe& r) {
            if (!r.adapter) return std::string();
            return r.adapter->targets.empty() ? put(r.adapter->target_pattern) : put(r.adapter->targets);
          }};
}
// One of the three that say how long a run is: a later one replaces an earlier one.
template <class T>
Key length_key(const char* name, T TrainingRecipe::*field) {
  return {name,
          [=](Recipe& r, const YamlValue& v) {
            r.training.steps = r.training.tokens = 0;
            r.training.epochs = 0.0;
            get_in_range(v, r.training.*field, kPositive);
          },
          [=](const Recipe& r) { return r.training.*field > 0 ? put(r.training.*field) : std::string(); }, false};
}

Key architecture_key() {
  return {"model.architecture",
          [](Recipe& r, const YamlValue& v) {
            if (!v.node().IsMap() && !v.node().IsNull()) v.fail("a map of the keys of a configuration");
            r.model.architecture = v.node().IsNull() ? "" : YAML::Dump(v.node());
          },
          [](const Recipe& r) {
            if (r.model.architecture.empty()) return std::string();
            YAML::Emitter flow;
            flow.SetMapFormat(YAML::Flow);
            flow.SetSeqFormat(YAML::Flow);
            YAML::Node node = YAML::Load(r.model.architecture);
            node.SetStyle(YAML::EmitterStyle::Flow);
            flow << node;
            return std::string(flow.c_str());
          }};
}

Key validation_key() {
  return {"data.validation",
          [](Recipe& r, const YamlValue& v) {
            r.data.validation.clear();
            r.data.validation_share = 0.0;
            if (double share = 0.0; v.node().IsScalar() && YAML::convert<double>::decode(v.node(), share)) {
              check_range(v, share, {0.0, 0.9});
              r.data.validation_share = share;
            } else {
              r.data.validation = v.texts();
            }
          },
          [](const Recipe& r) {
            return r.data.validation.empty() ? put(r.data.validation_share) : put(r.data.validation);
          }};
}

Key tokenizer_key() {
  return {"data.tokenizer",
          [](Recipe& r, const YamlValue& v) {
            r.data.tokenizer.clear();
            r.data.tokenizer_vocab_size = 0;
            if (!v.node().IsMap()) {
              r.data.tokenizer = v.text();
              return;
            }
            if (v.node().size() != 1 || !v.node()["vocab_size"])
              v.fail("character, a file or folder, or {vocab_size: N}");
            get_in_range(YamlValue(v.node()["vocab_size"], v.where(), "data.tokenizer.vocab_size"),
                         r.data.tokenizer_vocab_size, {257, 1 << 24});
          },
          [](const Recipe& r) {
            return r.data.tokenizer_vocab_size > 0 ? fmt::format("{{vocab_size: {}}}", r.data.tokenizer_vocab_size)
                                                   : put(r.data.tokenizer);
          }};
}

const std::vector<Key>& recipe_keys() {
  using M = ModelRecipe;
  using T = TrainingRecipe;
  using O = OptimizerRecipe;
  using S = ScheduleRecipe;
  constexpr auto data = &Recipe::data;
  constexpr auto training = &Recipe::training;
  constexpr auto optimizer = &Recipe::optimizer;
  constexpr auto schedule = &Recipe::schedule;
  static const std::vector<Key> keys = {
      key("model.config", &Recipe::model, &M::config),
      architecture_key(),
      key("model.checkpoint", &Recipe::model, &M::checkpoint),
      key("model.dropout", &Recipe::model, &M::dropout, {0, 0.9}),
      key("data.train", data, &DataRecipe::train),
      validation_key(),
      tokenizer_key(),
      key("data.format", data, &DataRecipe::format),
      key("data.order", data, &DataRecipe::order),
      key("training.dtype", training, &T::dtype),
      key("training.context", training, &T::context, kCount),
      key("training.batch_size", training, &T::batch_size, kCount),
      key("training.accumulation", training, &T::accumulation, kCount),
      length_key("training.steps", &T::steps),
      length_key("training.epochs", &T::epochs),
      length_key("training.tokens", &T::tokens),
      key("training.clip", training, &T::clip, kNotNegative),
      key("training.skip_above", training, &T::skip_above, kNotNegative),
      key("training.seed", training, &T::seed),
      key("training.recompute", training, &T::recompute, kAny, false),  // the same bits
      key("training.router_balance", training, &T::router_balance, kNotNegative),
      key("training.dpo_beta", training, &T::dpo_beta, kPositive),
      key("training.tensor_parallel", training, &T::tensor_parallel, {1, 65536}, false),  // as other numbers of ranks
      key("optimizer.name", optimizer, &O::name),
      key("optimizer.learning_rate", optimizer, &O::learning_rate, kNotNegative),
      key("optimizer.beta1", optimizer, &O::beta1, {0, 0.99999}),
      key("optimizer.beta2", optimizer, &O::beta2, {0, 0.9999999}),
      key("optimizer.epsilon", optimizer, &O::epsilon, kPositive),
      key("optimizer.weight_decay", optimizer, &O::weight_decay, kNotNegative),
      key("optimizer.momentum", optimizer, &O::momentum, {0, 0.9999999}),
      key("optimizer.nesterov", optimizer, &O::nesterov),
      key("optimizer.scale", optimizer, &O::scale),
      key("optimizer.coefficients", optimizer, &O::coefficients),
      key("optimizer.iterations", optimizer, &O::iterations, {1, 100}),
      key("optimizer.states", optimizer, &O::states),
      key("optimizer.ema", optimizer, &O::ema, {0, 0.9999999}),
      key("optimizer.decayed", optimizer, &O::decayed),
      key("schedule.name", schedule, &S::name),
      key("schedule.warmup_steps", schedule, &S::warmup_steps, kCountOrNone),
      key("schedule.decay_steps", schedule, &S::decay_steps, kCountOrNone),
      key("schedule.final_learning_rate", schedule, &S::final_learning_rate, kNotNegative),
      adapter_key("adapter.rank", &AdapterRecipe::rank, kCount),
      adapter_key("adapter.alpha", &AdapterRecipe::alpha, kPositive),
      adapter_key("adapter.dropout", &AdapterRecipe::dropout, {0, 0.9}),
      adapter_key("adapter.rank_stabilised", &AdapterRecipe::rank_stabilised),
      targets_key(),
      adapter_key("adapter.target_parameters", &AdapterRecipe::target_parameters),
      key("evaluation.every", &Recipe::evaluation, &EvaluationRecipe::every, kCountOrNone, false),
      key("evaluation.batches", &Recipe::evaluation, &EvaluationRecipe::batches, kCountOrNone, false),
      key("checkpoint.every", &Recipe::checkpoint, &CheckpointRecipe::every, kCountOrNone, false),
      key("checkpoint.keep", &Recipe::checkpoint, &CheckpointRecipe::keep, kCount, false),
      key("logging.every", &Recipe::logging, &LoggingRecipe::every, kCount, false),
      key("logging.tensorboard", &Recipe::logging, &LoggingRecipe::tensorboard, kAny, false),
      key("logging.samples", &Recipe::logging, &LoggingRecipe::samples, kCountOrNone, false),
  };
  return keys;
}

std::string section_of(const std::string& key) { return key.substr(0, key.find('.')); }

const Key& find_key(const std::string& name, const std::string& where) {
  std::vector<std::string> names;
  for (const Key& key : recipe_keys()) {
    if (key.name == name) return key;
    names.push_back(key.name);
  }
  const auto nearest = nearest_name(name, names);
  throw Error(fmt::format("recipe: {}: the key {} is not known", where, quote(name)),
              nearest ? fmt::format("did you mean {}?", *nearest) : "docs/training.md lists the keys");
}

void check_section(const std::string& name, const std::string& where) {
  std::vector<std::string> sections;
  for (const Key& key : recipe_keys())
    if (sections.empty() || sections.back() != section_of(key.name)) sections.push_back(section_of(key.name));
  if (std::find(sections.begin(), sections.end(), name) != sections.end()) return;
  const auto nearest = nearest_name(name, sections);
  throw Error(fmt::format("recipe: {}: the section {} is not known, there are {}", where, quote(name),
                          fmt::join(sections, ", ")),
              nearest ? fmt::format("did you mean {}?", *nearest) : "");
}

void read_file(Recipe& recipe, const std::string& path) {
  const YAML::Node root = parse_yaml_file(path);
  const auto line = [&](const YAML::Node& node) { return fmt::format("{}:{}", path, node.Mark().line + 1); };
  check(root.IsMap(), "recipe", "{}: expected sections of keys and values", path);
  std::vector<std::string> seen;
  for (const auto& section : root) {
    check(section.first.IsScalar(), "recipe", "{}: a section is no plain name", line(section.first));
    const std::string& name = section.first.Scalar();
    check_section(name, line(section.first));
    check(std::find(seen.begin(), seen.end(), name) == seen.end(), "recipe", "{}: {} appears twice",
          line(section.first), name);
    seen.push_back(name);
    if (section.second.IsNull()) continue;
    check(section.second.IsMap(), "recipe", "{}: {} must hold keys and values", line(section.second), name);
    for (const auto& entry : section.second) {
      check(entry.first.IsScalar(), "recipe", "{}: a key is no plain name", line(entry.first));
      const Key& key = find_key(name + "." + entry.first.Scalar(), line(entry.first));
      check(std::find(seen.begin(), seen.end(), key.name) == seen.end(), "recipe", "{}: {} appears twice",
            line(entry.first), key.name);
      seen.push_back(key.name);
      if (!entry.second.IsNull()) key.read(recipe, YamlValue(entry.second, path, key.name));
    }
  }
}

// "section.key=value", the value as YAML.
void read_setting(Recipe& recipe, const std::string& setting, const std::string& where = "--set") {
  const size_t equals = setting.find('=');
  if (equals == std::string::npos || equals == 0)
    throw UsageError(fmt::format("{}: expected section.key=value, found {}", where, quote(setting)));
  const std::string name = setting.substr(0, equals), text = setting.substr(equals + 1);
  YAML::Node node;
  try {
    node = YAML::Load(text);
  } catch (const YAML::Exception& e) {
    throw UsageError(fmt::format("{} {}: {}", where, name, e.msg));
  }
  const Key& key = find_key(name, where);
  key.read(recipe, YamlValue(node.IsScalar() ? YAML::Node(node.Scalar()) : node, where + " " + name, key.name));
}

// What a section has, whoever reads it.
void check_sections(const Recipe& r, const std::string& path) {
  check(r.optimizer.coefficients.size() == 3, "recipe", "{}: optimizer.coefficients has {} numbers, expected 3", path,
        r.optimizer.coefficients.size());
  check(!r.adapter || !r.adapter->targets.empty() || !r.adapter->target_pattern.empty() ||
            !r.adapter->target_parameters.empty(),
        "recipe", "{}: adapter.targets is missing", path);
}

// What needs all of a weight in one place.
void check_tensor_parallel(const Recipe& r, const std::string& path) {
  if (r.training.tensor_parallel == 1) return;
  const auto refuse = [&](bool has, const char* what) {
    if (has)
      throw Error(fmt::format("recipe: {}: training.tensor_parallel: {} does not go with {}", path,
                              r.training.tensor_parallel, what),
                  "with training.tensor_parallel: 1 processes share rows and the optimizer's states out");
  };
  refuse(r.adapter.has_value(), "an adapter");
  refuse(r.optimizer.name == OptimizerRecipe::Name::muon, "optimizer.name: muon, whose matrices must be whole");
  refuse(r.optimizer.states == OptimizerRecipe::States::int8, "optimizer.states: int8, whose blocks would be cut");
  refuse(r.data.format == DataRecipe::Format::preference, "data.format: preference");
}

// What several keys decide together.
void check_recipe(const Recipe& r, const std::string& path) {
  const int models = !r.model.config.empty() + !r.model.architecture.empty() + !r.model.checkpoint.empty();
  check(models == 1, "recipe", "{}: expected one of model.config, model.architecture and model.checkpoint, found {}",
        path, models);
  check(r.training.steps > 0 || r.training.epochs > 0 || r.training.tokens > 0, "recipe",
        "{}: expected one of training.steps, training.epochs and training.tokens", path);
  check_sections(r, path);
  check_tensor_parallel(r, path);
  check(!r.adapter || !r.model.checkpoint.empty(), "recipe", "{}: an adapter needs model.checkpoint to be trained on",
        path);
}

}  // namespace

Recipe read_recipe(const std::string& path, const std::vector<std::string>& settings) {
  Recipe recipe;
  read_file(recipe, path);
  for (const std::string& setting : settings) read_setting(recipe, setting);
  check_recipe(recipe, path);
  return recipe;
}

Recipe recipe_of(const std::vector<std::string>& settings, const std::string& where) {
  Recipe recipe;
  for (const std::string& setting : settings) read_setting(recipe, setting, where);
  check_sections(recipe, where);
  return recipe;
}

bool is_recipe(const std::string& path) {
  if (!path.ends_with(".yaml") && !path.ends_with(".yml")) return false;
  const YAML::Node root = parse_yaml_file(path);
  return root.IsMap() && root["training"];
}

std::string to_yaml(const Recipe& recipe) {
  std::string text, section;
  for (const Key& key : recipe_keys()) {
    const std::string value = key.write(recipe);
    if (value.empty()) continue;
    if (section_of(key.name) != section) {
      section = section_of(key.name);
      text += section + ":\n";
    }
    text += fmt::format("  {}: {}\n", key.name.substr(section.size() + 1), value);
  }
  return text;
}

std::vector<std::string> different_keys(const Recipe& a, const Recipe& b) {
  std::vector<std::string> names;
  for (const Key& key : recipe_keys())
    if (key.decides && key.write(a) != key.write(b)) names.push_back(key.name);
  return names;
}

}  // namespace lathe
