// Which loader reads a path: folders by the files in them, files by what they hold, then by their names.
#include <array>
#include <filesystem>
#include <fstream>

#include "tensor/errors.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_parts.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
constexpr const char* kForms = "supported: tokenizer.json, tokenizer.model (sentencepiece), .gguf";

std::string first_bytes(const fs::path& path, size_t count) {
  std::ifstream file(path, std::ios::binary);
  std::string bytes(count, '\0');
  file.read(bytes.data(), static_cast<std::streamsize>(count));
  bytes.resize(static_cast<size_t>(std::max<std::streamsize>(file.gcount(), 0)));
  return bytes;
}

// Lines of base64, a space and a rank. A sentencepiece model begins with a field tag, 0x0A, and is no text.
bool is_tiktoken(const fs::path& path) {
  const std::string head = first_bytes(path, 200);
  const size_t space = head.find(' '), line = head.find('\n');
  if (space == std::string::npos || line == std::string::npos || space == 0 || space + 1 >= line) return false;
  const std::string_view base64("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=");
  return head.substr(0, space).find_first_not_of(base64) == std::string::npos &&
         head.substr(space + 1, line - space - 1).find_first_not_of("0123456789") == std::string::npos;
}

[[noreturn]] void refuse(const fs::path& path, const char* form) {
  throw Error(fmt::format("{}: {} are not supported", path.string(), form), kForms);
}

fs::path find_in_folder(const fs::path& folder) {
  for (const char* name : {"tokenizer.json", "tokenizer.model"})
    if (fs::exists(folder / name)) return folder / name;
  for (const char* name : {"tekken.json", "vocab.json", "vocab.bpe", "merges.txt", "vocab.txt", "qwen.tiktoken"})
    if (fs::exists(folder / name)) return folder / name;
  throw Error(fmt::format("{}: no tokenizer.json and no tokenizer.model in this folder", folder.string()),
              "ids given with --tokens need no tokenizer");
}

TokenizerParts load_parts(const fs::path& path) {
  const std::string name = path.filename().string(), extension = path.extension().string();
  if (first_bytes(path, 4) == "GGUF" || extension == ".gguf") return load_gguf_vocabulary(path.string());
  if (name.rfind("tekken", 0) == 0 && extension == ".json") refuse(path, "tekken vocabularies");
  if (name == "vocab.json" || name == "encoder.json" || name == "merges.txt" || name == "vocab.bpe")
    refuse(path, "vocabularies in two files (vocab.json and merges.txt)");
  if (name == "vocab.txt") refuse(path, "WordPiece vocabularies as lists");
  if (extension == ".json") return load_tokenizer_json(path.string());
  if (is_tiktoken(path)) refuse(path, "tiktoken rank files");
  if (extension == ".model") return load_sentencepiece(path.string());
  throw Error(fmt::format("{}: this is no tokenizer file that is known by its name or its content", path.string()),
              kForms);
}

}  // namespace

std::shared_ptr<const Tokenizer> Tokenizer::load(const std::string& given) {
  fs::path path(given);
  std::error_code ignored;
  if (!fs::exists(path, ignored)) throw Error(fmt::format("{}: no such file or folder", given));
  if (path.extension() == ".safetensors" || path.extension() == ".bin") {
    path = path.parent_path();
    if (path.empty()) path = ".";
  }
  if (fs::is_directory(path)) path = find_in_folder(path);
  TokenizerParts parts = load_parts(path);
  if (path.extension() != ".gguf") {
    const fs::path folder = path.parent_path();
    read_tokenizer_config(folder.empty() ? "." : folder.string(), parts);
  }
  return std::make_shared<const Tokenizer>(std::move(parts));
}

}  // namespace lathe
