#include "text/tokenizer/tokenizer_config.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "formats/mapped_file.h"
#include "formats/quote.h"
#include "formats/strict_json.h"
#include "text/unicode/unicode.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

nlohmann::json read_object(const fs::path& path) {
  if (!fs::exists(path)) return nlohmann::json::object();
  nlohmann::json document = read_strict_json(path.string());
  if (!document.is_object()) JsonNode(document, path.string()).fail("expected an object");
  return document;
}

constexpr const char* kUsualNames[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                       "pad_token", "cls_token", "mask_token"};

// Where a name stands among the usual ones; behind them all for any other.
ptrdiff_t rank_of(const std::string& name) {
  return std::find(std::begin(kUsualNames), std::end(kUsualNames), name) - std::begin(kUsualNames);
}
bool is_usual(const std::string& name) { return rank_of(name) < std::ssize(kUsualNames); }

// A token is its text, or an object with its flags; `special` where the object does not say.
AddedToken token_of(const JsonNode& node, bool special) {
  AddedToken token;
  token.special = special;
  if (!node.value().is_object()) {
    token.content = node.string();
    return token;
  }
  token.content = node.at("content").string();
  token.special = node.boolean_or("special", special);
  token.single_word = node.boolean_or("single_word", false);
  token.lstrip = node.boolean_or("lstrip", false);
  token.rstrip = node.boolean_or("rstrip", false);
  token.normalized = node.boolean_or("normalized", !token.special);
  return token;
}

// A token that is special because of where it stands.
AddedToken special_token_of(const JsonNode& node) {
  AddedToken token = token_of(node, true);
  token.special = true;
  return token;
}

int32_t token_id(const JsonNode& node, int64_t id) {
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

TokenAdder::TokenAdder(TokenizerParts& parts) : parts_(parts), next_(parts.vocabulary->size()) {
  for (size_t i = 0; i < parts_.added.size(); ++i) {
    const AddedToken& token = parts_.added[i];
    by_id_[token.id] = i;
    ids_.emplace(token.content, token.id);
    next_ = std::max<int64_t>(next_, token.id + int64_t{1});
  }
}

void TokenAdder::add(AddedToken token) {
  if (token.content.empty()) return;
  const auto known = ids_.find(token.content);
  if (known != ids_.end()) {
    AddedToken& before = parts_.added[by_id_.at(known->second)];
    token.id = before.id;
    token.normalized = before.normalized && (before.special || token.normalized);
    token.special = token.special || before.special;
    before = std::move(token);
    return;
  }
  if (const int32_t id = parts_.vocabulary->find(token.content); id >= 0) token.id = id;
  if (token.id < 0) {
    check(next_ < Vocabulary::kMaxSize, "vocabulary", "no id is left for the token {}", quote(token.content));
    token.id = static_cast<int32_t>(next_);
  }
  next_ = std::max<int64_t>(next_, token.id + int64_t{1});
  ids_[token.content] = token.id;
  const auto [place, is_new] = by_id_.emplace(token.id, parts_.added.size());
  if (is_new) return parts_.added.push_back(std::move(token));
  ids_.erase(parts_.added[place->second].content);
  parts_.added[place->second] = std::move(token);
}

TokenizerConfig::TokenizerConfig(std::string folder)
    : folder_(std::move(folder)), settings_(read_object(fs::path(folder_) / "tokenizer_config.json")) {
  listed_in_settings_ = settings().has("added_tokens_decoder");
  read_special(settings(), false);
  const std::string map = where("special_tokens_map.json");
  if (!listed_in_settings_) read_special({read_object(map), map}, true);
  read_listed();
  std::stable_sort(listed_.begin(), listed_.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
}

std::string TokenizerConfig::where(const char* file) const { return (fs::path(folder_) / file).string(); }

std::string TokenizerConfig::tokenizer_class() const {
  std::string name = settings().string_or("tokenizer_class", "");
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  return name;
}

std::optional<std::string> TokenizerConfig::named(const char* member) const {
  for (const auto& [name, token] : named_)
    if (name == member && !token.content.empty()) return token.content;
  return std::nullopt;
}

void TokenizerConfig::name(const std::string& name, AddedToken token) {
  for (NamedToken& known : named_)
    if (known.first == name) return static_cast<void>(known.second = std::move(token));
  named_.emplace_back(name, std::move(token));
}

// Names: the usual ones, any other that ends in _token and is a token (add_bos_token is none), and the members of
// model_specific_special_tokens, and of extra_special_tokens where that is an object. Without names:
// additional_special_tokens, unless extra_special_tokens is a list.
void TokenizerConfig::read_special(const JsonNode& node, bool is_map) {
  for (const auto& [key, value] : node.value().items()) {
    const bool is_token = value.is_string() || (value.is_object() && value.contains("content"));
    if (is_usual(key) ? !value.is_null() : key.ends_with("_token") && is_token)
      name(key, special_token_of(node.at(key)));
  }
  const auto list_of = [&](const char* key) {
    std::vector<AddedToken> tokens;
    for (size_t i = 0; i < node.at(key).size(); ++i) tokens.push_back(special_token_of(node.at(key).at(i)));
    return tokens;
  };
  const auto name_members = [&](const char* key) {
    const JsonNode members = node.at(key);
    if (!members.value().is_object()) members.expected("an object");
    for (const auto& [member, value] : members.value().items()) name(member, special_token_of(members.at(member)));
  };
  if (node.has("model_specific_special_tokens")) name_members("model_specific_special_tokens");
  const bool extra = node.has("extra_special_tokens");
  if (extra && node.at("extra_special_tokens").value().is_object()) {
    name_members("extra_special_tokens");
  } else if (extra && (is_map || node.at("extra_special_tokens").size() > 0)) {
    if (!further_) further_.emplace();
    for (AddedToken& token : list_of("extra_special_tokens")) further_->push_back(std::move(token));
  }
  if (!further_ && node.has("additional_special_tokens")) further_ = list_of("additional_special_tokens");
  if (!further_ && extra && node.at("extra_special_tokens").value().is_array()) further_.emplace();
}

void TokenizerConfig::read_listed() {
  if (listed_in_settings_) {
    const JsonNode list = settings().at("added_tokens_decoder");
    if (!list.value().is_object()) list.expected("an object");
    for (const auto& [key, value] : list.value().items()) {
      const JsonNode node(value, fmt::format("{}.{}", list.where(), quote(key)));
      int64_t id = -1;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
      if (error != std::errc() || end != key.data() + key.size()) node.fail("expected a number for a name");
      if (!value.is_object()) node.expected("an object");
      listed_.push_back(token_of(node, false));
      listed_.back().id = token_id(node, id);
    }
    return;
  }
  const auto is_special = [&](const std::string& content) {
    const auto equal = [&](const AddedToken& token) { return token.content == content; };
    return std::any_of(named_.begin(), named_.end(),
                       [&](const NamedToken& token) { return is_usual(token.first) && equal(token.second); }) ||
           (further_ && std::any_of(further_->begin(), further_->end(), equal));
  };
  const nlohmann::json added_tokens = read_object(where("added_tokens.json"));
  for (const auto& [content, value] : added_tokens.items()) {
    const JsonNode node(value, fmt::format("{}: {}", where("added_tokens.json"), quote(content)));
    AddedToken token;
    token.content = content;
    token.id = token_id(node, node.integer());
    token.special = is_special(content);
    token.normalized = !token.special;
    listed_.push_back(std::move(token));
  }
}

void TokenizerConfig::add_tokens(TokenizerParts& parts, ListedIds ids, std::vector<NamedToken> usual) const {
  std::vector<NamedToken> named = named_;
  for (NamedToken& token : usual)
    if (!settings_.contains(token.first) && !this->named(token.first.c_str())) named.push_back(std::move(token));
  std::stable_sort(named.begin(), named.end(),
                   [](const NamedToken& a, const NamedToken& b) { return rank_of(a.first) < rank_of(b.first); });
  const auto is_named = [&](const std::string& content) {
    return std::any_of(named.begin(), named.end(), [&](const NamedToken& n) { return n.second.content == content; });
  };
  TokenAdder adder(parts);
  std::unordered_map<int32_t, size_t> own;  // of the vocabulary's file, which has the last word on what it lists
  if (!listed_in_settings_) {
    for (AddedToken token : std::vector<AddedToken>(parts.added)) {
      own.emplace(token.id, 0);
      token.special = token.special || is_named(token.content);
      adder.add(std::move(token));
    }
  }
  for (AddedToken token : listed_) {
    const int32_t listed = token.id;
    const std::string content = token.content;
    if (own.contains(listed)) continue;
    if (ids == ListedIds::order) token.id = -1;
    token.special = token.special || is_named(content);
    adder.add(std::move(token));
    if (const int32_t id = parts.find(content); id >= 0 && id != listed)
      parts.warnings.push_back(fmt::format("{}: token {} is listed with id {}, it gets {}",
                                           where(listed_in_settings_ ? "tokenizer_config.json" : "added_tokens.json"),
                                           quote(content), listed, id));
  }
  const std::unordered_map<std::string, int32_t> listed = adder.ids();
  std::vector<AddedToken> special;
  const auto add_special = [&](const AddedToken& token) {
    if (listed.contains(token.content) || std::find(special.begin(), special.end(), token) != special.end()) return;
    special.push_back(token);
    adder.add(token);
  };
  for (const auto& [name, token] : named) {
    add_special(token);
    if (!token.content.empty()) parts.named[name] = token.content;
  }
  if (further_) std::for_each(further_->begin(), further_->end(), add_special);
  if (settings().boolean_or("split_special_tokens", false)) parts.reads_special = false;
}

void TokenizerConfig::apply(TokenizerParts& parts) const {
  const auto id_of = [&](const char* name) {
    const auto found = parts.named.find(name);
    return found == parts.named.end() ? Vocabulary::kNone : parts.find(found->second);
  };
  if (const int32_t id = id_of("bos_token"); id >= 0) parts.bos = id;
  if (const int32_t id = id_of("eos_token"); id >= 0) parts.eos = id;
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
