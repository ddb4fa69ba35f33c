// Mistral and Mixtral: Llama's keys, a sliding window and experts. Defaults are those of transformers'
// configuration_mistral.py and configuration_mixtral.py: a window where the file does not mention one.
#include <nlohmann/json.hpp>

#include "config/family_tables.h"

namespace lathe {

using M = ModelConfig;

ConfigFamily mistral_family() {
  ConfigFamily family{"mistral", {"MistralForCausalLM"}, llama_defaults(131072), {}, "llama"};
  family.gguf_all_windows = true;
  family.defaults.num_key_value_heads = 8;
  family.defaults.bos_token_id = 1;
  family.defaults.eos_token_ids = {2};
  family.json_keys = with_llama({{"sliding_window", ReadElsewhere{}}});
  family.read_together = [](ModelConfig& c, const nlohmann::json& root) {
    set_windows(c, read_window(c, root, "sliding_window", 4096), [](int64_t) { return true; });
  };
  family.write_together = write_window;
  return family;
}

ConfigFamily mixtral_family() {
  ConfigFamily family{"mixtral", {"MixtralForCausalLM"}, llama_defaults(131072, 1e-5), {}, "llama"};
  ModelConfig& d = family.defaults;
  d.num_key_value_heads = 8;
  d.rope_theta = 1e6;
  d.bos_token_id = 1;
  d.eos_token_ids = {2};
  d.num_experts = 8;
  d.num_experts_per_tok = 2;
  d.norm_topk_prob = true;  // always: the file does not say
  family.json_keys = with_llama({{"sliding_window", ReadElsewhere{}},
                                 {"num_experts", &M::num_experts},
                                 {"num_local_experts", &M::num_experts},
                                 {"num_experts_per_tok", &M::num_experts_per_tok},
                                 {"router_aux_loss_coef", &M::router_aux_loss_coef}});
  family.read_together = [](ModelConfig& c, const nlohmann::json& root) {
    set_windows(c, read_window(c, root, "sliding_window", 0), [](int64_t) { return true; });
  };
  family.write_together = write_window;
  return family;
}

}  // namespace lathe
