// See strict_json.h. nlohmann's parser keeps the last of two equal keys and puts no bound on nesting; its callback sees
// both in time.
#include "formats/strict_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "formats/mapped_file.h"
#include "formats/quote.h"
#include "tensor/errors.h"

namespace lathe {
namespace {

template <class Json>
Json parse(std::string_view text, const std::string& source, int max_depth) {
  std::vector<std::set<std::string>> keys;  // of the open objects, outermost first; an array has an empty set
  const auto watch = [&](int depth, typename Json::parse_event_t event, Json& parsed) {
    using Event = typename Json::parse_event_t;
    if (event == Event::object_start || event == Event::array_start) {
      if (depth >= max_depth) throw Error(fmt::format("{}: nested deeper than {} levels", source, max_depth));
      keys.emplace_back();
    } else if (event == Event::object_end || event == Event::array_end) {
      keys.pop_back();
    } else if (event == Event::key) {
      const auto& key = parsed.template get_ref<const std::string&>();
      if (!keys.back().insert(key).second)
        throw Error(fmt::format("{}: the key {} appears twice in one object", source, quote(key)));
    }
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), watch);
  } catch (const typename Json::parse_error& e) {
    throw Error(source + ": " + parse_problem(text, e.byte));
  } catch (const typename Json::exception&) {
    throw Error(source + ": a number is beyond the range of float64");
  }
}

}  // namespace

std::string parse_problem(std::string_view text, size_t byte) {
  const size_t at = byte > 0 ? byte - 1 : 0;
  const std::string_view before = text.substr(0, at);
  const size_t line_begin = before.rfind('\n') + 1;  // npos + 1 is 0
  const auto lines = std::count(before.begin(), before.end(), '\n');
  const bool several = text.find('\n') + 1 < text.size() && text.find('\n') != text.npos;
  return fmt::format("parse error at {}column {}: {}", several ? fmt::format("line {}, ", lines + 1) : "",
                     before.size() - line_begin + 1,
                     at < text.size() ? "unexpected " + quote(text.substr(at, 1)) : "the text ends too early");
}

nlohmann::json parse_strict_json(std::string_view text, const std::string& source, int max_depth) {
  return parse<nlohmann::json>(text, source, max_depth);
}

nlohmann::ordered_json parse_ordered_json(std::string_view text, const std::string& source, int max_depth) {
  return parse<nlohmann::ordered_json>(text, source, max_depth);
}

nlohmann::json read_strict_json(const std::string& path, size_t max_bytes) {
  const auto file = MappedFile::open(path);
  const auto bytes = file->bytes();
  check(bytes.size() <= max_bytes, "json", "{} has {} bytes, expected at most {}", path, bytes.size(), max_bytes);
  return parse_strict_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

void for_each_text_line(std::string_view text, const std::function<void(std::string_view, int64_t)>& f) {
  for (int64_t number = 1; !text.empty(); ++number) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (number == 1 && line == "\xEF\xBB\xBF") continue;
    if (line.find_first_not_of(" \t") != line.npos) f(line, number);
  }
}

void for_each_json_line(std::string_view text, const std::string& source,
                        const std::function<void(const nlohmann::ordered_json&, const std::string&)>& f) {
  for_each_text_line(text, [&](std::string_view line, int64_t number) {
    const std::string where = fmt::format("{}: line {}", source, number);
    const nlohmann::ordered_json value = parse_ordered_json(line, where);
    try {
      f(value, where);
    } catch (const Error& e) {
      if (std::string_view(e.what()).starts_with(where)) throw;
      throw Error(where + ": " + e.what(), e.hint());
    }
  });
}

}  // namespace lathe
