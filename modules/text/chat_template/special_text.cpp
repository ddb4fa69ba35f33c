// Finding special tokens in the inputs of a template; see the header.
#include "text/chat_template/special_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "text/chat_template/unicode.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;

// Recursion is safe: inputs that are nested too deep have failed to render before.
Json map_json(const Json& json, const std::string& path, const ReplaceString& replace) {
  if (json.is_string()) return replace(path, json.get_ref<const std::string&>());
  if (json.is_array()) {
    Json result = Json::array();
    for (std::size_t i = 0; i < json.size(); ++i)
      result.push_back(map_json(json[i], fmt::format("{}[{}]", path, i), replace));
    return result;
  }
  if (!json.is_object()) return json;
  Json result = Json::object();
  for (const auto& [key, value] : json.items()) {
    const std::string inner = path + "." + key;
    std::string name = replace("a key of " + path, key);
    result.get_ref<Json::object_t&>().emplace_back(std::move(name), map_json(value, inner, replace));
  }
  return result;
}

// Tokens by the two bytes that they, or parts of them, begin with: a text is searched for thousands of them at once.
class Finder {
 public:
  explicit Finder(const Tokenizer& tokenizer) {
    for (const int32_t id : tokenizer.special_tokens()) {
      const std::string text = tokenizer.token_text(id);
      if (text.empty()) continue;
      if (text.size() == 1) {
        by_byte_.push_back({text, id});
        continue;
      }
      wholes_[key(text, 0)].push_back({text, id});
      for (std::size_t begin = 1; begin + 2 <= text.size(); ++begin)
        ends_[key(text, begin)].push_back({text.substr(begin), id});
    }
  }

  bool is_token(std::string_view text) const {
    return std::any_of(by_byte_.begin(), by_byte_.end(), [&](const Part& part) { return part.text == text; }) ||
           (text.size() >= 2 && any_of(wholes_, text, [&](const Part& part) { return part.text == text; }));
  }

  void find(std::string_view text, std::vector<SpecialText>& found) const {
    const auto add = [&](std::size_t begin, std::size_t size, const Part& part, bool is_whole) {
      if (is_whole || jinja::count_code_points(text.substr(begin, size)) >= 2)
        found.push_back({0, begin, size, part.token, is_whole, {}});
    };
    any_of(ends_, text, [&](const Part& part) {
      if (text.starts_with(part.text)) add(0, part.text.size(), part, false);
      return false;
    });
    for (std::size_t begin = 0; begin < text.size(); ++begin) {
      const std::string_view rest = text.substr(begin);
      for (const Part& part : by_byte_)
        if (rest.starts_with(part.text)) add(begin, 1, part, true);
      any_of(wholes_, rest, [&](const Part& part) {
        if (rest.starts_with(part.text))
          add(begin, part.text.size(), part, true);
        else if (std::string_view(part.text).starts_with(rest))
          add(begin, rest.size(), part, false);
        return false;
      });
    }
  }

 private:
  struct Part {
    std::string text;
    int32_t token;
  };
  using Table = std::unordered_map<unsigned, std::vector<Part>>;

  static unsigned key(std::string_view text, std::size_t at) {
    return static_cast<unsigned char>(text[at]) << 8u | static_cast<unsigned char>(text[at + 1]);
  }

  template <class Predicate>
  static bool any_of(const Table& table, std::string_view text, Predicate predicate) {
    const auto parts = text.size() < 2 ? table.end() : table.find(key(text, 0));
    return parts != table.end() && std::any_of(parts->second.begin(), parts->second.end(), predicate);
  }

  Table wholes_, ends_;
  std::vector<Part> by_byte_;
};

}  // namespace

ChatTemplate::Inputs map_strings(const ChatTemplate::Inputs& inputs, const ReplaceString& replace) {
  ChatTemplate::Inputs result = inputs;
  result.messages = map_json(inputs.messages, "messages", replace);
  result.tools = map_json(inputs.tools, "tools", replace);
  result.documents = map_json(inputs.documents, "documents", replace);
  result.arguments = map_json(inputs.arguments, "arguments", replace);
  for (auto& [name, text] : result.variables) text = replace(name, text);
  return result;
}

std::vector<SpecialText> find_special_text(const Tokenizer& tokenizer, const ChatTemplate::Inputs& inputs) {
  const Finder finder(tokenizer);
  std::vector<SpecialText> all;
  std::size_t string = 0;
  map_strings(inputs, [&](const std::string& path, const std::string& text) {
    std::vector<SpecialText> found;
    if (!inputs.variables.contains(path) || !finder.is_token(text)) finder.find(text, found);
    std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
    for (SpecialText& one : found) {
      one.string = string, one.in = path;
      all.push_back(std::move(one));
    }
    ++string;
    return text;
  });
  return all;
}

}  // namespace lathe
