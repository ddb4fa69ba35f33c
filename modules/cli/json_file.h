// JSON that a user names on the command line, and that the program prints.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace lathe {

// Keys stay in their order: templates print them. Throws Error naming the file when it cannot be read or is no JSON.
nlohmann::ordered_json read_json_file(const std::string& path);

// One line; bytes that are no UTF-8, in the name of a file for one, become U+FFFD.
std::string dump_line(const nlohmann::ordered_json& json);

}  // namespace lathe
