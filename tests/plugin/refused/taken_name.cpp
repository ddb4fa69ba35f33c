// A plugin whose family has the name of one that the library knows.
#include "config/family_tables.h"
#include "llm/plugin.h"

namespace {

using namespace lathe;

void register_second_llama() {
  ModelFamily family = model_families()[1];
  family.config = [] { return ConfigFamily{"llama", {"LlamaForCausalLM"}, llama_defaults(2048), with_llama({})}; };
  register_family(family);
}

}  // namespace

LATHE_PLUGIN(register_second_llama)
