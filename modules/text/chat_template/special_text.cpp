// Finding special tokens in the inputs of a template; see the header.
#include "text/chat_template/special_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "text/tokenizer/token_trie.h"
#include "text/unicode/utf8.h"

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

// The special tokens, and what they begin and end with.
class Finder {
 public:
  explicit Finder(const Tokenizer& tokenizer) : Finder(texts_of(tokenizer)) {}

  bool is_token(std::string_view text) const {
    bool found = false;
    wholes_.each_prefix(text, [&](std::size_t size, int32_t) { found |= size == text.size(); });
    return found;
  }

  void find(std::string_view text, std::vector<SpecialText>& found) const {
    const auto add = [&](std::size_t begin, std::size_t size, int32_t token, bool is_whole) {
      if (is_whole || count_characters(text.substr(begin, size)) >= 2)
        found.push_back({0, begin, size, token, is_whole, {}});
    };
    ends_.each_prefix(text, [&](std::size_t size, int32_t token) { add(0, size, token, false); });
    for (std::size_t begin = 0; begin < text.size(); ++begin) {
      const std::string_view rest = text.substr(begin);
      wholes_.each_prefix(rest, [&](std::size_t size, int32_t token) { add(begin, size, token, true); });
      beginnings_.each_prefix(rest, [&](std::size_t size, int32_t token) {
        if (size == rest.size()) add(begin, size, token, false);
      });
    }
  }

 private:
  using Texts = std::vector<std::pair<std::string, int32_t>>;

  static Texts texts_of(const Tokenizer& tokenizer) {
    Texts texts;
    for (const int32_t id : tokenizer.special_tokens()) texts.emplace_back(tokenizer.token_text(id), id);
    return texts;
  }

  // The parts of all tokens that `part_at` gives for each place within them.
  template <class PartAt>
  static TokenTrie parts(const Texts& texts, PartAt&& part_at) {
    std::vector<std::pair<std::string_view, int32_t>> parts;
    for (const auto& [text, id] : texts)
      for (std::size_t at = 1; at < text.size(); ++at) parts.emplace_back(part_at(std::string_view(text), at), id);
    return TokenTrie(std::move(parts));
  }

  explicit Finder(const Texts& texts)
      : wholes_({texts.begin(), texts.end()}),
        beginnings_(parts(texts, [](std::string_view text, std::size_t at) { return text.substr(0, at); })),
        ends_(parts(texts, [](std::string_view text, std::size_t at) { return text.substr(at); })) {}

  const TokenTrie wholes_, beginnings_, ends_;
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
