// Mistral 7B, Nemo, Small and Large: Jiang et al. 2023, section 2.
//
// Llama's arithmetic. Unusual: a query sees the last 4096 keys (layer_window) in the first 7B; Nemo's heads are
// narrower than C / Hq. Defaults are those of transformers' configuration_mistral.py: a window where the file mentions
// none. In GGUF the family is a llama with a window in all layers.
#include <nlohmann/json.hpp>

#include "config/family_keys.h"
#include "llm/families.h"

namespace lathe {

Family mistral_family() {
  Family f;
  f.name = "mistral";
  f.architectures = {"MistralForCausalLM"};
  f.model_types = {"mistral"};
  f.gguf_architecture = "llama";
  f.variants = {"Mistral 7B", "Mistral Nemo", "Mistral Small", "Mistral Large"};
  f.capabilities = {"completion", "chat"};
  f.published = {{"mistral",
                  {"7B"},
                  {{"instruct", "mistralai/Mistral-{size}-Instruct-v0.3"}, {"base", "mistralai/Mistral-{size}-v0.3"}}},
                 {"mistral-nemo",
                  {"12B"},
                  {{"instruct", "mistralai/Mistral-Nemo-Instruct-2407"}, {"base", "mistralai/Mistral-Nemo-Base-2407"}}},
                 {"mistral-small", {"22B"}, {{"instruct", "mistralai/Mistral-Small-Instruct-2409"}}},
                 {"mistral-small",
                  {"24B"},
                  {{"instruct", "mistralai/Mistral-Small-{size}-Instruct-2501"},
                   {"base", "mistralai/Mistral-Small-{size}-Base-2501"}}},
                 {"mistral-large", {"123B"}, {{"instruct", "mistralai/Mistral-Large-Instruct-2411"}}},
                 {"ministral", {"8B"}, {{"instruct", "mistralai/Ministral-{size}-Instruct-2410"}}}};
  f.defaults = llama_defaults(131072);
  f.defaults.num_key_value_heads = 8;
  f.defaults.bos_token_id = 1;
  f.defaults.eos_token_ids = {2};
  f.gguf_all_windows = true;
  f.json_keys = with_llama({{"sliding_window", ReadElsewhere{}}});
  f.read_together = [](ModelConfig& c, const nlohmann::json& root) {
    set_windows(c, read_window(c, root, "sliding_window", 4096), [](int64_t) { return true; });
  };
  f.write_together = write_window;
  f.make = make_llama;
  f.weight_mapping = llama_weight_mapping;
  return f;
}

}  // namespace lathe
