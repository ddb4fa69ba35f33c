// libFuzzer target: any text as a config.json. It gives a valid ModelConfig or is refused with lathe::Error.
#include "config/model_config.h"
#include "llm/registry.h"
#include "tensor/errors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto config = lathe::parse_config_json(std::string(reinterpret_cast<const char*>(data), size), "config.json",
                                                 lathe::family_configs());
    lathe::validate(config);
  } catch (const lathe::Error&) {}
  return 0;
}
