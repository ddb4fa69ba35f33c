#include "cli/json_file.h"

#include <nlohmann/json.hpp>

#include "cli/model_options.h"
#include "formats/strict_json.h"

namespace lathe {

nlohmann::ordered_json read_json_file(const std::string& path) { return parse_ordered_json(read_text(path), path); }

std::string dump_line(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace lathe
