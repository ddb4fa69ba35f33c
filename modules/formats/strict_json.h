// JSON from files of strangers.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace lathe {

// Parses one JSON document. Throws Error naming `source` on a syntax error (with its position), invalid UTF-8, a key
// that appears twice in an object, or nesting deeper than `max_depth`.
nlohmann::json parse_strict_json(std::string_view text, const std::string& source, int max_depth = 64);

// The same for a file. Throws Error also when it cannot be read or is larger than `max_bytes`.
nlohmann::json read_strict_json(const std::string& path, size_t max_bytes = size_t{100} << 20);

}  // namespace lathe
