// What lies beside a tokenizer in a Hugging Face folder: tokenizer_config.json (special tokens by name, chat templates)
// and templates in files of their own.
#include <algorithm>
#include <filesystem>

#include "formats/mapped_file.h"
#include "formats/quote.h"
#include "formats/strict_json.h"
#include "tokenizer/tokenizer_parts.h"
#include "tokenizer/unicode.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

// A special token is a string, or an object with its flags.
std::optional<std::string> token_name(const JsonNode& config, const char* member) {
  if (!config.has(member)) return std::nullopt;
  const JsonNode token = config.at(member);
  return token.value().is_object() ? token.at("content").string() : token.string();
}

std::optional<int32_t> special_token(const JsonNode& config, const char* member, TokenizerParts& parts) {
  const auto name = token_name(config, member);
  if (!name || name->empty()) return std::nullopt;
  const int32_t id = parts.find(*name);
  if (id >= 0) return id;
  parts.warnings.push_back(fmt::format("{}: {} {} is not in the vocabulary", config.where(), member, quote(*name)));
  return std::nullopt;
}

void read_special_tokens(const JsonNode& config, TokenizerParts& parts) {
  if (auto id = special_token(config, "bos_token", parts)) parts.bos = id;
  if (auto id = special_token(config, "eos_token", parts)) parts.eos = id;
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

void read_tokenizer_config(const std::string& folder, TokenizerParts& parts) {
  const fs::path root(folder);
  for (const char* name : {"special_tokens_map.json", "tokenizer_config.json"}) {  // the latter has the last word
    const fs::path path = root / name;
    if (!fs::exists(path)) continue;
    const nlohmann::json document = read_strict_json(path.string());
    const JsonNode config(document, path.string());
    if (!document.is_object()) config.fail("expected an object");
    read_special_tokens(config, parts);
    read_added_around(config, parts);
    read_templates(config, parts);
  }
  if (fs::exists(root / "chat_template.jinja"))
    parts.chat_templates["default"] = read_template_file(root / "chat_template.jinja");
  if (fs::is_directory(root / "additional_chat_templates"))
    for (const auto& entry : fs::directory_iterator(root / "additional_chat_templates"))
      if (entry.path().extension() == ".jinja")
        parts.chat_templates[entry.path().stem().string()] = read_template_file(entry.path());
}

}  // namespace lathe
