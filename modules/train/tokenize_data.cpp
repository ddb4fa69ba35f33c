// See tokenize_data.h.
#include "train/tokenize_data.h"

#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "formats/npy.h"
#include "formats/strict_json.h"
#include "tensor/errors.h"
#include "tensor/interruption.h"
#include "train/records.h"

namespace lathe {
namespace {

// What is in the name of a shard besides its contents: raised when the same contents become other ids.
constexpr int64_t kShardForm = 1;

std::optional<Tokens> mapped_ids(const std::vector<DataFile>& files) {
  if (files.size() != 1 || files.front().kind != DataFile::Kind::ids) return std::nullopt;
  const NpyIntegers array = open_npy_integers(files.front().path);
  if (array.type != NpyIntegers::Type::i32 || reinterpret_cast<uintptr_t>(array.data) % alignof(int32_t) != 0)
    return std::nullopt;
  const size_t size = static_cast<size_t>(array.size);
  std::string hash = ContentHash().add(array.data, size * sizeof(int32_t)).hex();
  return Tokens{array.file, {reinterpret_cast<const int32_t*>(array.data), size}, {}, std::move(hash), 0};
}

void write_ids(const std::string& path, TokenShardWriter& shard) {
  const NpyIntegers array = open_npy_integers(path);
  std::vector<int32_t> part;
  for (int64_t i = 0; i < array.size; ++i) {
    const int64_t id = array.at(i);
    check(id >= 0 && id <= std::numeric_limits<int32_t>::max(), "data", "{}: element {} is {}, which is no id", path, i,
          id);
    part.push_back(static_cast<int32_t>(id));
    if (part.size() == 1 << 16 || i + 1 == array.size) shard.add(part), part.clear();
  }
}

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

// Line by line. A bad one is skipped or ends it all.
void write_records(const DataFile& file, int32_t number, const RecordReader& reader, bool skip_bad_lines,
                   TokenShardWriter& shard) {
  const auto mapped = MappedFile::open(file.path);
  for_each_text_line(text_of(*mapped), [&](std::string_view text, int64_t line) {
    Interruption::point();
    const std::string where = fmt::format("{}: line {}", file.path, line);
    try {
      const nlohmann::ordered_json value = parse_ordered_json(text, where);
      for (const std::vector<int32_t>& ids : reader.read({value, where, ": "})) {
        shard.begin_document(number, static_cast<int32_t>(line));
        shard.add(ids);
      }
    } catch (const Error& e) {
      if (skip_bad_lines) return shard.skip_line();
      const bool placed = std::string_view(e.what()).starts_with(where);
      throw Error(placed ? e.what() : where + ": " + e.what(),
                  e.hint().empty() ? "--skip-bad-lines leaves such lines out" : e.hint());
    }
  });
}

void write_text(const DataFile& file, const RecordReader& reader, bool ends, TokenShardWriter& shard) {
  const auto mapped = MappedFile::open(file.path);
  try {
    shard.add(reader.read_text(text_of(*mapped), ends));
  } catch (const Error& e) {
    throw Error(file.path + ": " + e.what(), e.hint());
  }
}

void write_documents(const std::vector<DataFile>& files, const DataRecipe& recipe, const DataTokenizer& tokenizer,
                     bool skip_bad_lines, TokenShardWriter& shard) {
  std::optional<RecordReader> reader;
  if (tokenizer.tokenizer && files.front().kind != DataFile::Kind::ids) reader.emplace(recipe.format, tokenizer);
  for (size_t i = 0; i < files.size(); ++i) {
    const auto number = static_cast<int32_t>(i);
    if (files[i].kind == DataFile::Kind::lines) {
      write_records(files[i], number, *reader, skip_bad_lines, shard);
      continue;
    }
    shard.begin_document(number, 0);
    if (files[i].kind == DataFile::Kind::ids) {
      write_ids(files[i].path, shard);
    } else {
      write_text(files[i], *reader, files.size() > 1, shard);
    }
  }
}

}  // namespace

Tokens tokenize_data(const std::vector<DataFile>& files, const DataRecipe& recipe, const DataTokenizer& tokenizer,
                     const DataOptions& options) {
  if (auto ids = mapped_ids(files)) return std::move(*ids);
  ContentHash hash;
  hash.add(kShardForm).add(static_cast<int64_t>(recipe.format)).add(tokenizer.hash);
  hash.add(static_cast<int64_t>(options.skip_bad_lines));
  for (const DataFile& file : files) hash.add(static_cast<int64_t>(file.kind)).add(hash_of_file(file.path));
  const std::string key = hash.hex();
  const std::string path = (std::filesystem::path(options.cache) / ("tokens-" + key + ".shard")).string();
  if (auto known = open_token_shard(path, key)) return std::move(*known);

  TokenShardWriter shard(path, key);
  write_documents(files, recipe, tokenizer, options.skip_bad_lines, shard);
  shard.commit();
  auto written = open_token_shard(path, key);
  check(written.has_value(), "data", "{} has changed while it was written", path);
  return std::move(*written);
}

}  // namespace lathe
