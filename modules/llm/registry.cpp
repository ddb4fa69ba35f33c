#include "llm/registry.h"

#include <algorithm>

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

}  // namespace

const std::vector<ModelFamily>& model_families() {
  static const std::vector<ModelFamily> families = {
      {"gpt2", {"GPT2LMHeadModel"}, {"gpt2"}, {"GPT-2"}, {"completion"}, make_gpt2, gpt2_weight_mapping},
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
      {"qwen3", {"Qwen3ForCausalLM"}, {"qwen3"}, {"Qwen3"}, {"completion", "chat"}, make_llama, qwen_weight_mapping},
      {"gpt_neox",
       {"GPTNeoXForCausalLM"},
       {"gpt_neox", "gptneox"},
       {"GPT-NeoX", "Pythia"},
       {"completion"},
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

const ModelFamily& family_of(const ModelConfig& config) {
  const auto has = [](const std::vector<std::string>& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
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

}  // namespace lathe
