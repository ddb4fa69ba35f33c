// Which loader reads a path: folders by the files in them, files by what they hold, then by their names.
#include <fmt/ranges.h>

#include <array>
#include <filesystem>
#include <fstream>

#include "formats/git_lfs.h"
#include "tensor/errors.h"
#include "text/tokenizer/tokenizer.h"
#include "text/tokenizer/tokenizer_config.h"
#include "text/tokenizer/tokenizer_parts.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
constexpr const char* kForms =
    "supported: tokenizer.json, tekken.json, sentencepiece's .model, tiktoken's ranks, vocab.json with merges.txt, "
    "encoder.json with vocab.bpe, vocab.txt, .gguf";
// What is looked for in a folder, first to last: the file that says most, then what the published loaders of its kind
// prefer. Meta keeps Llama 3's ranks in a folder of their own.
constexpr std::array kNames = {"tokenizer.json", "tekken.json", "tokenizer.model", "qwen.tiktoken",
                               "vocab.json",     "vocab.bpe",   "vocab.txt",       "original/tokenizer.model"};

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

fs::path find_in_folder(const fs::path& folder) {
  for (const char* name : kNames)
    if (fs::exists(folder / name)) return folder / name;
  throw Error(
      fmt::format("{}: no tokenizer in this folder, expected one of {}", folder.string(), fmt::join(kNames, ", ")),
      "ids given with --tokens need no tokenizer");
}

// The folder whose tokenizer_config.json belongs to `path`.
fs::path folder_of(const fs::path& path) {
  fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  if (folder.filename() == "original" && !fs::exists(folder / "tokenizer_config.json")) return folder / "..";
  return folder;
}

// `pattern` is asked for: has the form any use for it?
void check_pattern(const fs::path& path, const std::string& pattern, bool takes_pattern) {
  if (!pattern.empty() && !takes_pattern)
    throw Error(fmt::format("{}: --pattern is given, but this file says itself how text is cut", path.string()),
                "--pattern is for tiktoken's ranks and for vocab.json with merges.txt");
}

TokenizerParts load_by_form(const fs::path& path, bool merges, bool ranks, const TokenizerConfig& config,
                            const std::string& pattern) {
  const std::string file = path.string(), name = path.filename().string(), extension = path.extension().string();
  if (merges) return load_vocabulary_and_merges(file, config, pattern);
  if (ranks) return load_tiktoken(file, config, pattern);
  if (name == "vocab.txt") return load_word_list(file, config);
  if (extension == ".json")
    return name.starts_with("tekken") ? load_tekken(file, config) : load_tokenizer_json(file, config);
  if (extension == ".model") return load_sentencepiece(file, config);
  throw Error(file + ": this is no tokenizer file that is known by its name or its content", kForms);
}

TokenizerParts load_parts(const fs::path& path, const std::string& pattern) {
  refuse_git_lfs_pointer(first_bytes(path, 1025), path.string());
  const std::string name = path.filename().string(), extension = path.extension().string();
  const bool merges = name == "vocab.json" || name == "encoder.json" || name == "merges.txt" || name == "vocab.bpe";
  const bool gguf = first_bytes(path, 4) == "GGUF" || extension == ".gguf";
  const bool ranks = !gguf && !merges && name != "vocab.txt" && extension != ".json" && is_tiktoken(path);
  check_pattern(path, pattern, merges || ranks);
  if (gguf) return load_gguf_vocabulary(path.string());

  const TokenizerConfig config(folder_of(path).string());
  try {
    TokenizerParts parts = load_by_form(path, merges, ranks, config, pattern);
    config.apply(parts);
    return parts;
  } catch (const Error& error) {  // of a part that does not know which file it is from
    const std::string message = error.what();
    const bool named = message.starts_with(path.string()) || message.starts_with((folder_of(path) / "").string());
    throw Error(named ? message : path.string() + ": " + message, error.hint());
  }
}

}  // namespace

std::shared_ptr<const Tokenizer> Tokenizer::load(const std::string& given, const std::string& pattern) {
  fs::path path(given);
  std::error_code ignored;
  if (!fs::exists(path, ignored)) throw Error(fmt::format("{}: no such file or folder", given));
  if (path.extension() == ".safetensors" || path.extension() == ".bin") {
    path = path.parent_path();
    if (path.empty()) path = ".";
  }
  if (fs::is_directory(path)) path = find_in_folder(path);
  return std::make_shared<const Tokenizer>(load_parts(path, pattern));
}

}  // namespace lathe
