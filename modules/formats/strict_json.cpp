// See strict_json.h. nlohmann's parser keeps the last of two equal keys and puts no bound on nesting; its callback sees
// both in time.
#include "formats/strict_json.h"

#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "formats/mapped_file.h"
#include "formats/quote.h"
#include "tensor/errors.h"

namespace lathe {

using nlohmann::json;

json parse_strict_json(std::string_view text, const std::string& source, int max_depth) {
  std::vector<std::set<std::string>> keys;  // of the open objects, outermost first; an array has an empty set
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    using Event = json::parse_event_t;
    if (event == Event::object_start || event == Event::array_start) {
      check(depth < max_depth, "json", "{}: nested deeper than {} levels", source, max_depth);
      keys.emplace_back();
    } else if (event == Event::object_end || event == Event::array_end) {
      keys.pop_back();
    } else if (event == Event::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      check(keys.back().insert(key).second, "json", "{}: the key {} appears twice in one object", source, quote(key));
    }
    return true;
  };
  try {
    return json::parse(text.begin(), text.end(), watch);
  } catch (const json::exception& e) {
    // "[json.exception.parse_error.101] parse error at line 3, column 7: ...": the identifier tells a user nothing.
    std::string_view message = e.what();
    if (const size_t bracket = message.find("] "); bracket != message.npos) message.remove_prefix(bracket + 2);
    std::string shown;
    for (const char c : message.substr(0, 300)) shown += c >= 0x20 && c < 0x7f ? c : '?';
    throw Error(fmt::format("json: {}: {}", source, shown));
  }
}

json read_strict_json(const std::string& path, size_t max_bytes) {
  const auto file = MappedFile::open(path);
  const auto bytes = file->bytes();
  check(bytes.size() <= max_bytes, "json", "{} has {} bytes, expected at most {}", path, bytes.size(), max_bytes);
  return parse_strict_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

}  // namespace lathe
