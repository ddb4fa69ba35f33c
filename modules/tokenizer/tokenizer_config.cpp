#include "tokenizer/tokenizer_config.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "formats/mapped_file.h"
#include "formats/quote.h"
#include "formats/strict_json.h"
#include "tokenizer/unicode.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

nlohmann::json read_object(const fs::path& path) {
  if (!fs::exists(path)) return nlohmann::json::object();
  nlohmann::json document = read_strict_json(path.string());
  if (!document.is_object()) JsonNode(document, path.string()).fail("expected an object");
  return document;
}

// A special token is a string, or an object with its flags.
std::optional<std::string> token_name(const JsonNode& config, const char* member) {
  if (!config.has(member)) return std::nullopt;
  const JsonNode token = config.at(member);
  return token.value().is_object() ? token.at("content").string() : token.string();
}

AddedToken token_of(const JsonNode& node) {
  AddedToken token;
  token.content = node.at("content").string();
  token.special = node.boolean_or("special", false);
  token.single_word = node.boolean_or("single_word", false);
  token.lstrip = node.boolean_or("lstrip", false);
  token.rstrip = node.boolean_or("rstrip", false);
  token.normalized = node.boolean_or("normalized", !token.special);
  return token;
}

int32_t checked_id(const JsonNode& node, int64_t id) {
  if (id < 0 || id >= Vocabulary::kMaxSize) node.fail(fmt::format("id {} is out of range", id));
  return static_cast<int32_t>(id);
}

// Where the file says whether BOS and EOS are added, that counts and not the post-processor, as in transformers.
void read_added_around(const JsonNode& config, TokenizerParts& parts) {
  if (!config.has("add_bos_token") && !config.has("add_eos_token")) return;
  parts.before.clear();
  parts.after.clear();
  if (config.boolean_or("add_bos_token", false) && parts.bos) parts.before.push_back(*parts.bos);
  if (config.boolean_or("add_eos_token", false) && parts.eos) parts.after.push_back(*parts.eos);
}

void read_templates(const JsonNode& config, TokenizerParts& parts) {
  if (!config.has("chat_template")) return;
  const JsonNode templates = config.at("chat_template");
  if (templates.value().is_string()) {
    parts.chat_templates["default"] = templates.string();
    return;
  }
  for (size_t i = 0; i < templates.size(); ++i)
    parts.chat_templates[templates.at(i).at("name").string()] = templates.at(i).at("template").string();
}

std::string read_template_file(const fs::path& path) {
  const auto file = MappedFile::open(path.string());
  const auto bytes = file->bytes();
  std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  check_utf8(text, path.string().c_str());
  return text;
}

}  // namespace

TokenAdder::TokenAdder(TokenizerParts& parts) : parts_(parts) {
  for (size_t i = 0; i < parts_.added.size(); ++i) {
    by_id_[parts_.added[i].id] = i;
    contents_.emplace(parts_.added[i].content, parts_.added[i].id);
  }
}

void TokenAdder::add(AddedToken token) {
  contents_[token.content] = token.id;
  const auto [place, is_new] = by_id_.emplace(token.id, parts_.added.size());
  if (is_new) return parts_.added.push_back(std::move(token));
  AddedToken& known = parts_.added[place->second];
  if (known.content != token.content) contents_.erase(known.content);
  known = std::move(token);
}

void TokenAdder::add_special(const std::string& content, bool lstrip) {
  if (content.empty()) return;
  const auto known = contents_.find(content);
  AddedToken token;
  token.content = content;
  token.id = known != contents_.end() ? known->second : parts_.vocabulary->find(content);
  token.special = true;
  token.lstrip = lstrip;
  if (token.id >= 0) add(std::move(token));
}

TokenizerConfig::TokenizerConfig(std::string folder)
    : folder_(std::move(folder)),
      settings_(read_object(fs::path(folder_) / "tokenizer_config.json")),
      special_map_(read_object(fs::path(folder_) / "special_tokens_map.json")),
      added_tokens_(read_object(fs::path(folder_) / "added_tokens.json")) {}

std::string TokenizerConfig::where(const char* file) const { return (fs::path(folder_) / file).string(); }

std::string TokenizerConfig::tokenizer_class() const {
  std::string name = settings().string_or("tokenizer_class", "");
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  return name;
}

std::optional<std::string> TokenizerConfig::named(const char* member) const {
  if (auto name = token_name(settings(), member)) return name;
  return token_name({special_map_, where("special_tokens_map.json")}, member);
}

void TokenizerConfig::add_named(const JsonNode& node, TokenAdder& adder) {
  for (const char* member : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token"})
    if (const auto name = token_name(node, member)) adder.add_special(*name);
  if (const auto name = token_name(node, "mask_token"))
    adder.add_special(*name, node.at("mask_token").value().is_object() && token_of(node.at("mask_token")).lstrip);
  if (!node.has("additional_special_tokens")) return;
  const JsonNode list = node.at("additional_special_tokens");
  for (size_t i = 0; i < list.size(); ++i)
    adder.add_special(list.at(i).value().is_object() ? token_of(list.at(i)).content : list.at(i).string());
}

void TokenizerConfig::add_tokens(TokenizerParts& parts) const {
  TokenAdder adder(parts);
  if (settings().has("added_tokens_decoder")) {
    const JsonNode list = settings().at("added_tokens_decoder");
    if (!list.value().is_object()) list.fail("expected an object");
    for (const auto& [key, value] : list.value().items()) {
      const JsonNode node(value, fmt::format("{}.{}", list.where(), quote(key)));
      int64_t id = -1;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
      if (error != std::errc() || end != key.data() + key.size()) node.fail("expected a number for a name");
      AddedToken token = token_of(node);
      token.id = checked_id(node, id);
      if (!token.content.empty()) adder.add(std::move(token));
    }
    return;
  }
  for (const auto& [content, value] : added_tokens_.items()) {
    const JsonNode node(value, fmt::format("{}: {}", where("added_tokens.json"), quote(content)));
    AddedToken token;
    token.content = content;
    token.id = checked_id(node, node.integer());
    token.normalized = true;
    if (!content.empty()) adder.add(std::move(token));
  }
  add_named({special_map_, where("special_tokens_map.json")}, adder);
  add_named(settings(), adder);
}

std::optional<int32_t> TokenizerConfig::special_token(const char* member, TokenizerParts& parts) const {
  const auto name = named(member);
  if (!name || name->empty()) return std::nullopt;
  const int32_t id = parts.find(*name);
  if (id >= 0) return id;
  parts.warnings.push_back(
      fmt::format("{}: {} {} is not in the vocabulary", where("tokenizer_config.json"), member, quote(*name)));
  return std::nullopt;
}

void TokenizerConfig::apply(TokenizerParts& parts) const {
  if (const auto id = special_token("bos_token", parts)) parts.bos = id;
  if (const auto id = special_token("eos_token", parts)) parts.eos = id;
  read_added_around(settings(), parts);
  read_templates(settings(), parts);
  const fs::path root(folder_);
  if (fs::exists(root / "chat_template.jinja"))
    parts.chat_templates["default"] = read_template_file(root / "chat_template.jinja");
  if (fs::is_directory(root / "additional_chat_templates"))
    for (const auto& entry : fs::directory_iterator(root / "additional_chat_templates"))
      if (entry.path().extension() == ".jinja")
        parts.chat_templates[entry.path().stem().string()] = read_template_file(entry.path());
}

}  // namespace lathe
