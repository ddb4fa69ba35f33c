// OLMo 2: configuration_olmo2.py of transformers.
#include "config/family_tables.h"

namespace lathe {

ConfigFamily olmo2_family() {
  ConfigFamily family{"olmo2", {"Olmo2ForCausalLM"}, llama_defaults(2048, 1e-5), {}};
  family.defaults.eos_token_ids = {50279};
  family.defaults.pad_token_id = 1;
  family.json_keys = with_llama({attention_bias_key()});
  return family;
}

}  // namespace lathe
