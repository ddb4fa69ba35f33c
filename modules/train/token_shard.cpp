// See token_shard.h.
#include "train/token_shard.h"

#include <cstring>
#include <filesystem>

#include "tensor/errors.h"

namespace lathe {
namespace {

constexpr char kMagic[17] = "lathe tokens 1\r\n";

struct ShardFooter {
  int64_t tokens = 0, documents = 0, skipped = 0;
  char key[32] = {}, hash[32] = {};
  char magic[16] = {};
};
static_assert(sizeof(ShardFooter) == 3 * 8 + 32 + 32 + 16 && sizeof(TokenDocument) == 16);

// The bytes of ids, up to where the documents can lie.
size_t bytes_of_ids(int64_t tokens) { return (static_cast<size_t>(tokens) * sizeof(int32_t) + 7) / 8 * 8; }

}  // namespace

std::optional<Tokens> open_token_shard(const std::string& path, const std::string& key) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored) || std::filesystem::file_size(path, ignored) == 0)
    return std::nullopt;
  Tokens tokens;
  tokens.file = MappedFile::open(path);
  const auto bytes = tokens.file->bytes();
  ShardFooter footer;
  if (bytes.size() < sizeof footer) return std::nullopt;
  std::memcpy(&footer, bytes.data() + bytes.size() - sizeof footer, sizeof footer);
  const auto most = static_cast<int64_t>(bytes.size());
  if (std::memcmp(footer.magic, kMagic, sizeof footer.magic) != 0 || std::string_view(footer.key, 32) != key ||
      footer.tokens < 0 || footer.tokens > most || footer.documents < 0 || footer.documents > most)
    return std::nullopt;
  const size_t ids = bytes_of_ids(footer.tokens),
               documents = static_cast<size_t>(footer.documents) * sizeof(TokenDocument);
  if (ids + documents + sizeof footer != bytes.size()) return std::nullopt;
  tokens.ids = {reinterpret_cast<const int32_t*>(bytes.data()), static_cast<size_t>(footer.tokens)};
  tokens.documents = {reinterpret_cast<const TokenDocument*>(bytes.data() + ids),
                      static_cast<size_t>(footer.documents)};
  tokens.hash.assign(footer.hash, 32);
  tokens.skipped = footer.skipped;
  return tokens;
}

TokenShardWriter::TokenShardWriter(const std::string& path, const std::string& key) : file_(path), key_(key) {
  check(key.size() == 32, "shard", "the key has {} characters, expected 32", key.size());
}

void TokenShardWriter::add(std::span<const int32_t> ids) {
  file_.write(ids.data(), ids.size_bytes());
  hash_.add(ids.data(), ids.size_bytes());
  tokens_ += static_cast<int64_t>(ids.size());
}

void TokenShardWriter::commit() {
  const char padding[8] = {};
  file_.write(padding, bytes_of_ids(tokens_) - static_cast<size_t>(tokens_) * sizeof(int32_t));
  file_.write(documents_.data(), documents_.size() * sizeof(TokenDocument));
  for (const TokenDocument& document : documents_) hash_.add(document.begin);
  ShardFooter footer{tokens_, static_cast<int64_t>(documents_.size()), skipped_, {}, {}, {}};
  std::memcpy(footer.key, key_.data(), sizeof footer.key);
  std::memcpy(footer.hash, hash_.hex().data(), sizeof footer.hash);
  std::memcpy(footer.magic, kMagic, sizeof footer.magic);
  file_.write(&footer, sizeof footer);
  file_.commit();
}

}  // namespace lathe
