#include "cli/json_file.h"

#include <nlohmann/json.hpp>

#include "cli/model_options.h"
#include "tensor/errors.h"

namespace lathe {

nlohmann::ordered_json read_json_file(const std::string& path) {
  try {
    return nlohmann::ordered_json::parse(read_text(path));
  } catch (const nlohmann::json::exception& e) {
    throw Error(fmt::format("{}: expected JSON: {}", path, e.what()));
  }
}

}  // namespace lathe
