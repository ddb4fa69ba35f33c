// See data_tokenizer.h.
#include "train/data_tokenizer.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <type_traits>

#include "formats/atomic_file.h"
#include "formats/content_hash.h"
#include "formats/gguf.h"
#include "llm/registry.h"
#include "load_model/checkpoint.h"
#include "tensor/errors.h"
#include "text/tokenizer/train_bpe.h"
#include "text/tokenizer/write_tokenizer.h"
#include "text/unicode/utf8.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

// What a folder's tokenizer may be made of, in the order of the names.
std::vector<fs::path> tokenizer_files(const fs::path& folder) {
  std::set<fs::path> files;
  if (fs::exists(folder / "original/tokenizer.model")) files.insert(folder / "original/tokenizer.model");
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_regular_file() && entry.file_size() > 0 && is_companion(entry.path().filename().string()))
      files.insert(entry.path());
  return {files.begin(), files.end()};
}

std::string hash_of_gguf_vocabulary(const std::string& path) {
  ContentHash hash;
  const auto file = GgufFile::open(path);
  for (const auto& [key, value] : file->metadata()) {
    if (!key.starts_with("tokenizer.")) continue;
    hash.add(key);
    std::visit(
        [&hash](const auto& held) {
          using T = std::decay_t<decltype(held)>;
          if constexpr (std::is_same_v<T, std::string>) {
            hash.add(held);
          } else if constexpr (std::is_arithmetic_v<T>) {
            hash.add(&held, sizeof held);
          } else if constexpr (std::is_same_v<T, std::vector<std::string>>) {
            for (const std::string& text : held) hash.add(text);
          } else {
            for (const auto element : held) hash.add(static_cast<int64_t>(element));
          }
        },
        value);
  }
  return hash.hex();
}

std::string hash_of_folder(const fs::path& folder) {
  ContentHash hash;
  for (const fs::path& file : tokenizer_files(folder))
    hash.add(file.filename().string()).add(hash_of_file(file.string()));
  return hash.hex();
}

std::optional<int32_t> end_token(const Tokenizer& tokenizer) {
  if (tokenizer.eos()) return tokenizer.eos();
  const std::vector<int32_t> ends = tokenizer.end_of_turn_tokens();
  return ends.empty() ? std::nullopt : std::optional(ends.front());
}

// A folder of the cache that is written once and named by what it is made from.
template <class Write>
fs::path made_folder(const DataOptions& options, const std::string& hash, const Write& write) {
  fs::path folder = fs::path(options.cache) / ("tokenizer-" + hash);
  std::error_code ignored;
  if (fs::exists(folder / "tokenizer.json", ignored)) return folder;
  try {
    AtomicFolder made(folder.string());
    write([&made](const char* name, const std::string& content) {
      AtomicFile output((fs::path(made.path()) / name).string());
      output.write(content);
      output.commit();
    });
    made.commit();
  } catch (const Error&) {
    if (!fs::exists(folder / "tokenizer.json", ignored)) throw;  // else another process was faster
  }
  return folder;
}

// `hash`: of the files that it is loaded from.
DataTokenizer load(const fs::path& path, const std::string& folder, const std::string& hash) {
  DataTokenizer result;
  result.tokenizer = Tokenizer::load(path.string());
  result.folder = folder;
  ContentHash all;
  all.add(hash);
  for (const auto& [name, text] : result.tokenizer->chat_templates()) all.add(name).add(text);
  result.hash = all.hex();
  result.end = end_token(*result.tokenizer);
  return result;
}

DataTokenizer from_folder(const fs::path& folder) { return load(folder, folder.string(), hash_of_folder(folder)); }

// One that is made of the texts of `files`, once: `make` gives its vocabulary.
template <class Make>
DataTokenizer made_of(const std::vector<DataFile>& files, const std::string& how, const DataOptions& options,
                      const Make& make) {
  ContentHash hash;
  hash.add(how).add(static_cast<int64_t>(options.skip_bad_lines));
  for (const DataFile& file : files) hash.add(static_cast<int64_t>(file.kind)).add(hash_of_file(file.path));
  return from_folder(made_folder(options, hash.hex(), [&](const auto& file) {
    const NewVocabulary vocabulary = make();
    file("tokenizer.json", tokenizer_json(vocabulary));
    file("tokenizer_config.json", tokenizer_config_json(vocabulary));
  }));
}

DataTokenizer of_characters(const std::vector<DataFile>& files, const DataOptions& options) {
  return made_of(files, "characters", options, [&] {
    std::vector<bool> seen(0x110000);
    for_each_text(files, options.skip_bad_lines, [&](std::string_view text) {
      for (size_t position = 0; position < text.size();) seen[next_character(text, position)] = true;
    });
    NewVocabulary vocabulary;
    for (size_t code = 0; code < seen.size(); ++code)
      if (seen[code]) append_character(vocabulary.tokens.emplace_back(), static_cast<char32_t>(code));
    return vocabulary;
  });
}

DataTokenizer of_merges(const std::vector<DataFile>& files, int64_t vocab_size, const DataOptions& options) {
  return made_of(files, fmt::format("merges to {} tokens", vocab_size), options, [&] {
    BpeTrainer trainer;
    for_each_text(files, options.skip_bad_lines, [&](std::string_view text) { trainer.add(text); });
    BpeTrainerOptions trained;
    trained.vocab_size = vocab_size;
    return trainer.train(trained);
  });
}

DataTokenizer from_file(const fs::path& path, const DataOptions& options) {
  check(fs::exists(path), "data", "the tokenizer {} does not exist", path.string());
  if (path.extension() == ".gguf") return load(path, "", hash_of_gguf_vocabulary(path.string()));
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  const std::string hash = ContentHash().add(hash_of_file(path.string())).add(hash_of_folder(folder)).hex();
  if (is_companion(path.filename().string())) return load(path, folder.string(), hash);
  if (path.extension() != ".json") return load(path, "", hash);
  // A model's folder has it under the name that loaders look for.
  const auto copy = [](const auto& file, const fs::path& from, const char* to) {
    const auto mapped = MappedFile::open(from.string());
    file(to, std::string(reinterpret_cast<const char*>(mapped->bytes().data()), mapped->bytes().size()));
  };
  const fs::path made = made_folder(options, hash, [&](const auto& file) {
    copy(file, path, "tokenizer.json");
    for (const char* name : {"tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"})
      if (fs::exists(folder / name)) copy(file, folder / name, name);
  });
  return load(path, made.string(), hash);
}

DataTokenizer from_checkpoint(const std::string& checkpoint, const DataOptions& options) {
  const Checkpoint opened = open_checkpoint(checkpoint, family_configs());
  return opened.format == CheckpointFormat::gguf ? from_file(opened.path, options) : from_folder(opened.folder);
}

}  // namespace

DataTokenizer choose_tokenizer(const DataRecipe& recipe, const DataOptions& options, const std::vector<DataFile>& train,
                               const std::vector<DataFile>& all) {
  const bool ids = train.front().kind == DataFile::Kind::ids;
  if (recipe.tokenizer_vocab_size > 0 || recipe.tokenizer == "character") {
    check(!ids, "data", "{} holds ids, and no text to make a tokenizer from", train.front().path);
    return recipe.tokenizer_vocab_size > 0 ? of_merges(train, recipe.tokenizer_vocab_size, options)
                                           : of_characters(all, options);
  }
  if (!recipe.tokenizer.empty())
    return fs::is_directory(recipe.tokenizer) ? from_folder(recipe.tokenizer) : from_file(recipe.tokenizer, options);
  try {
    if (!options.checkpoint.empty()) return from_checkpoint(options.checkpoint, options);
  } catch (const Error&) {
    if (!ids) throw;  // ids need none
  }
  if (!ids)
    throw Error(fmt::format("data: {} is text, and the recipe names no tokenizer", train.front().path),
                "data.tokenizer: character, a file or folder, or {vocab_size: 4096} to train one");
  return {};
}

}  // namespace lathe
