#include "llm/registry.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "config/config_families.h"
#include "formats/quote.h"
#include "llm/families.h"

namespace lathe {
namespace {

// config/ lies below this folder and cannot ask. What the families' own files say of configurations is handed down when
// the library is loaded, before anything can be read.
[[maybe_unused]] const bool handed_down = [] {
  for (const ModelFamily& family : model_families())
    if (family.config) add_config_family(family.config());
  return true;
}();

bool has(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::deque<ModelFamily>& all_families() {
  static std::deque<ModelFamily> families = {
      {"gpt2", {"GPT2LMHeadModel", "GPT2Model"}, {"gpt2"}, {"GPT-2"}, {"completion"}, make_gpt2, gpt2_weight_mapping},
      {"llama",
       {"LlamaForCausalLM"},
       {"llama"},
       {"Llama 2", "Llama 3", "Llama 3.1", "Llama 3.2", "Llama 3.3", "Code Llama"},
       {"completion", "chat"},
       make_llama,
       llama_weight_mapping},
      {"mistral",
       {"MistralForCausalLM"},
       {"mistral"},
       {"Mistral 7B", "Mistral Nemo", "Mistral Small", "Mistral Large"},
       {"completion", "chat"},
       make_llama,
       llama_weight_mapping},
      {"mixtral",
       {"MixtralForCausalLM"},
       {"mixtral"},
       {"Mixtral 8x7B", "Mixtral 8x22B"},
       {"completion", "chat"},
       make_mixtral,
       mixtral_weight_mapping},
      {"qwen2",
       {"Qwen2ForCausalLM"},
       {"qwen2"},
       {"Qwen1.5", "Qwen2", "Qwen2.5"},
       {"completion", "chat"},
       make_llama,
       qwen_weight_mapping},
      {"qwen3_moe",
       {"Qwen3MoeForCausalLM"},
       {"qwen3_moe"},
       {"Qwen3 30B-A3B", "Qwen3 235B-A22B", "Qwen3-Coder"},
       {"completion", "chat"},
       make_qwen3_moe,
       qwen3_moe_weight_mapping},
      {"qwen3",
       {"Qwen3ForCausalLM"},
       {"qwen3"},
       {"Qwen3", "Qwen3-Embedding"},
       {"completion", "chat", "embeddings"},
       make_llama,
       qwen_weight_mapping},
      {"gpt_neox",
       {"GPTNeoXForCausalLM"},
       {"gpt_neox", "gptneox"},
       {"GPT-NeoX", "Pythia", "RedPajama-INCITE"},
       {"completion", "chat"},
       make_gpt_neox,
       gpt_neox_weight_mapping},
      {"falcon",
       {"FalconForCausalLM", "RWForCausalLM"},
       {"falcon", "RefinedWeb", "RefinedWebModel"},
       {"Falcon", "Falcon RW", "Falcon 2"},
       {"completion", "chat"},
       make_falcon,
       falcon_weight_mapping},
      {"mpt",
       {"MptForCausalLM", "MPTForCausalLM"},
       {"mpt"},
       {"MPT"},
       {"completion", "chat"},
       make_mpt,
       mpt_weight_mapping},
      {"gemma3",
       {"Gemma3ForCausalLM"},
       {"gemma3_text", "gemma3"},
       {"Gemma 3"},
       {"completion", "chat"},
       make_gemma3,
       gemma3_weight_mapping},
      {"olmo2", {"Olmo2ForCausalLM"}, {"olmo2"}, {"OLMo 2"}, {"completion", "chat"}, make_olmo2, olmo2_weight_mapping},
      {"qwen",
       {"QWenLMHeadModel"},
       {"qwen"},
       {"Qwen 1.8B", "Qwen 7B", "Qwen 14B", "Qwen 72B"},
       {"completion", "chat"},
       make_qwen1,
       qwen1_weight_mapping},
      {"phi3",
       {"Phi3ForCausalLM"},
       {"phi3"},
       {"Phi-3", "Phi-3.5 mini", "Phi-4"},
       {"completion", "chat"},
       make_llama,
       phi3_weight_mapping,
       phi3_config},
  };
  return families;
}

// One layer of small sizes; each bit of `variant` is an option.
ModelConfig tiny_config(const ConfigFamily& family, int variant) {
  ModelConfig c = family.defaults;
  const auto bit = [&](int i) { return (variant >> i & 1) != 0; };
  c.architecture = family.architectures.front();
  c.model_type = family.model_type;
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

std::set<std::string> parameters_of_variants(const ModelFamily& family, const ConfigFamily& config) {
  std::set<std::string> names;
  for (int variant = 0; variant < kVariants; ++variant) {
    try {
      const auto model = family.make(tiny_config(config, variant));
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

const std::deque<ModelFamily>& model_families() { return all_families(); }

void register_family(ModelFamily family) {
  const std::string where = "register: the family " + quote(family.name);
  const auto require = [&](bool condition, const std::string& fact) {
    if (!condition) throw Error(where + fact);
  };
  require(family.make != nullptr && family.weight_mapping != nullptr && family.config != nullptr,
          " lacks make, weight_mapping or config");
  ConfigFamily config = family.config();
  require(!family.architectures.empty() && config.architectures == family.architectures,
          fmt::format(" has the architectures {}, its configuration {}, expected the same, at least one",
                      fmt::join(family.architectures, ", "), fmt::join(config.architectures, ", ")));
  require(has(family.model_types, config.model_type),
          fmt::format(" has the model types {}, its configuration {}", fmt::join(family.model_types, ", "),
                      quote(config.model_type)));
  for (const ModelFamily& other : model_families()) {
    require(other.name != family.name, " is known already");
    for (const std::string& architecture : family.architectures)
      require(!has(other.architectures, architecture),
              fmt::format(": the architecture {} is {}'s", quote(architecture), other.name));
    for (const std::string& type : family.model_types)
      require(!has(other.model_types, type), fmt::format(": the model type {} is {}'s", quote(type), other.name));
  }
  const std::vector<std::string> dead = dead_targets(family, config);
  require(dead.empty(), fmt::format(": its weight mapping fills {}, which no model of it has", fmt::join(dead, ", ")));
  add_config_family(std::move(config));
  all_families().push_back(std::move(family));
}

const ModelFamily& family_of(const ModelConfig& config) {
  std::string known;
  for (const ModelFamily& family : model_families()) {
    if (config.architecture.empty() ? has(family.model_types, config.model_type)
                                    : has(family.architectures, config.architecture))
      return family;
    for (const std::string& architecture : family.architectures) known += (known.empty() ? "" : ", ") + architecture;
  }
  throw Error(fmt::format("{}: unknown architecture \"{}\"", config.source,
                          config.architecture.empty() ? config.model_type : config.architecture),
              "known architectures: " + known);
}

std::vector<std::string> dead_targets(const ModelFamily& family, const ConfigFamily& config) {
  std::set<std::string> targets, dead;
  for (int variant = 0; variant < kVariants; ++variant)
    for (const CheckpointFormat format : {CheckpointFormat::hugging_face, CheckpointFormat::gguf}) try {
        for (const MappingRule& rule : family.weight_mapping(tiny_config(config, variant), format).rules)
          targets.insert(rule.targets.begin(), rule.targets.end());
      } catch (const Error&) {
        continue;  // no format of this family
      }
  std::set<std::string> names = parameters_of_variants(family, config);
  for (const std::string& target : targets)
    if (!names_one_of(target, names)) dead.insert(target);
  for (const ConfigFamily& other : config_families()) {
    if (dead.empty()) break;
    names = parameters_of_variants(family_of(tiny_config(other, 0)), other);
    std::erase_if(dead, [&](const std::string& target) { return names_one_of(target, names); });
  }
  return {dead.begin(), dead.end()};
}

}  // namespace lathe
