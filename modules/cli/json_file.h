// JSON that a user names on the command line.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace lathe {

// Keys stay in their order: templates print them. Throws Error naming the file when it cannot be read or is no JSON.
nlohmann::ordered_json read_json_file(const std::string& path);

}  // namespace lathe
