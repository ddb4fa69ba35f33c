#include "llm/registry.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "formats/quote.h"
#include "llm/family.h"

namespace lathe {
namespace {

struct Registry {
  std::deque<Family> families;
  std::vector<const FamilyConfig*> configs;

  void add(Family family) {
    families.push_back(std::move(family));
    configs.push_back(&families.back());
  }
};

}  // namespace

// The function that a family's own file defines.
#define LATHE_FAMILY(name)       \
  extern Family name##_family(); \
  registry.add(name##_family())

// One line a family. Messages list them in this order.
static Registry known_families() {
  Registry registry;
  LATHE_FAMILY(llama);
  LATHE_FAMILY(gpt2);
  LATHE_FAMILY(mistral);
  LATHE_FAMILY(mixtral);
  LATHE_FAMILY(qwen2);
  LATHE_FAMILY(qwen3);
  LATHE_FAMILY(qwen3_moe);
  LATHE_FAMILY(gpt_neox);
  LATHE_FAMILY(falcon);
  LATHE_FAMILY(mpt);
  LATHE_FAMILY(gemma);
  LATHE_FAMILY(gemma2);
  LATHE_FAMILY(gemma3);
  LATHE_FAMILY(olmo2);
  LATHE_FAMILY(qwen);
  LATHE_FAMILY(phi3);
  LATHE_FAMILY(granite);
  LATHE_FAMILY(starcoder2);
  return registry;
}

namespace {

Registry& registry() {
  static Registry registry = known_families();
  return registry;
}

bool has(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// One layer of small sizes; each bit of `variant` is an option.
ModelConfig tiny_config(const Family& family, int variant) {
  ModelConfig c = family.defaults;
  const auto bit = [&](int i) { return (variant >> i & 1) != 0; };
  c.architecture = family.architectures.front();
  c.model_type = family.model_type();
  if (c.hidden_act.empty()) c.hidden_act = "silu";
  c.vocab_size = c.max_position_embeddings = c.head_dim = 8;
  c.hidden_size = 32;
  c.intermediate_size = 16;
  c.num_hidden_layers = 1;
  c.num_attention_heads = 4;
  c.num_key_value_heads = bit(0) ? 4 : 2;
  if (c.rotary_dim != 0) c.rotary_dim = 8;
  c.tie_word_embeddings = bit(0);
  c.attention_bias = c.attention_output_bias = c.mlp_bias = bit(1);
  c.qk_norm = bit(2);
  c.use_parallel_residual = bit(3);
  c.shared_parallel_norm = bit(4);
  if (c.num_experts > 0) {
    c.num_experts = 2;
    c.num_experts_per_tok = 1;
    c.moe_intermediate_size = 8;
    if (bit(1)) c.mlp_only_layers = {0};
  }
  return c;
}
constexpr int kVariants = 1 << 5;

std::set<std::string> parameters_of_variants(const Family& family) {
  std::set<std::string> names;
  for (int variant = 0; variant < kVariants; ++variant) {
    try {
      const auto model = family.make(tiny_config(family, variant));
      for (const NamedParameter& p : named_parameters(*model)) names.insert(p.name);
    } catch (const Error&) {
      continue;  // no variant of this family
    }
  }
  return names;
}

// A bias counts where its weight does: mappings name the two together.
bool names_one_of(std::string pattern, const std::set<std::string>& names) {
  std::vector<int64_t> numbers;
  if (pattern.ends_with(".bias")) pattern.replace(pattern.size() - 4, 4, "weight");
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& name) { return match_name(pattern, name, &numbers); });
}

}  // namespace

const std::deque<Family>& families() { return registry().families; }

FamilyConfigs family_configs() { return registry().configs; }

void register_family(Family family) {
  const std::string where = "register: the family " + quote(family.name);
  const auto require = [&](bool condition, const std::string& fact) {
    if (!condition) throw Error(where + fact);
  };
  require(family.make != nullptr && family.weight_mapping != nullptr, " lacks make or weight_mapping");
  require(!family.architectures.empty() && !family.model_types.empty(), " has no architecture or no model type");
  for (const Family& other : families()) {
    require(other.name != family.name, " is known already");
    for (const std::string& architecture : family.architectures)
      require(!has(other.architectures, architecture),
              fmt::format(": the architecture {} is {}'s", quote(architecture), other.name));
    for (const std::string& type : family.model_types)
      require(!has(other.model_types, type), fmt::format(": the model type {} is {}'s", quote(type), other.name));
  }
  const std::vector<std::string> dead = dead_targets(family);
  require(dead.empty(), fmt::format(": its weight mapping fills {}, which no model of it has", fmt::join(dead, ", ")));
  registry().add(std::move(family));
}

const Family& family_of(const ModelConfig& config) {
  std::string known;
  for (const Family& family : families()) {
    if (config.architecture.empty() ? has(family.model_types, config.model_type)
                                    : has(family.architectures, config.architecture))
      return family;
    for (const std::string& architecture : family.architectures) known += (known.empty() ? "" : ", ") + architecture;
  }
  throw Error(fmt::format("{}: unknown architecture \"{}\"", config.source,
                          config.architecture.empty() ? config.model_type : config.architecture),
              "known architectures: " + known);
}

std::vector<std::string> dead_targets(const Family& family) {
  std::set<std::string> targets, dead;
  for (int variant = 0; variant < kVariants; ++variant)
    for (const CheckpointFormat format : {CheckpointFormat::hugging_face, CheckpointFormat::gguf}) try {
        for (const MappingRule& rule : family.weight_mapping(tiny_config(family, variant), format).rules)
          targets.insert(rule.targets.begin(), rule.targets.end());
      } catch (const Error&) {
        continue;  // no format of this family
      }
  std::set<std::string> names = parameters_of_variants(family);
  for (const std::string& target : targets)
    if (!names_one_of(target, names)) dead.insert(target);
  for (const Family& other : families()) {
    if (dead.empty()) break;
    names = parameters_of_variants(other);
    std::erase_if(dead, [&](const std::string& target) { return names_one_of(target, names); });
  }
  return {dead.begin(), dead.end()};
}

}  // namespace lathe
