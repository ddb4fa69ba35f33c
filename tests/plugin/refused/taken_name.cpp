// A plugin whose family has the name of one that the library knows.
#include "llm/plugin.h"

namespace {

using namespace lathe;

void register_second_llama() { register_family(families()[0]); }

}  // namespace

LATHE_PLUGIN(register_second_llama)
