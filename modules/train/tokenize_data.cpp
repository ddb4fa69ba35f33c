// See tokenize_data.h.
#include "train/tokenize_data.h"

#include <bit>
#include <filesystem>
#include <limits>

#include "formats/npy.h"
#include "tensor/errors.h"

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

std::vector<int32_t> encode_document(const DataTokenizer& tokenizer, std::string_view text, bool ends) {
  std::vector<int32_t> ids = tokenizer.tokenizer->encode(text);
  if (ends && tokenizer.end && (ids.empty() || ids.back() != *tokenizer.end)) ids.push_back(*tokenizer.end);
  return ids;
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
  for (size_t i = 0; i < files.size(); ++i) {
    const DataFile& file = files[i];
    shard.begin_document(static_cast<int32_t>(i), 0);
    if (file.kind == DataFile::Kind::ids) {
      write_ids(file.path, shard);
      continue;
    }
    const auto mapped = MappedFile::open(file.path);
    const std::string_view text(reinterpret_cast<const char*>(mapped->bytes().data()), mapped->bytes().size());
    try {
      shard.add(encode_document(tokenizer, text, files.size() > 1));
    } catch (const Error& e) {
      throw Error(file.path + ": " + e.what(), e.hint());
    }
  }
  shard.commit();
  auto written = open_token_shard(path, key);
  check(written.has_value(), "data", "{} has changed while it was written", path);
  return std::move(*written);
}

}  // namespace lathe
