// A token shard: what a list of files became as tokens, in one file of the cache that is mapped when a run begins.
//
// Ids, then where each document begins and which line it is, then a footer with the counts. The footer comes last, so a
// shard is written in one go and one that lacks it is none. An id that is not to be learnt (a prompt's) is stored as
// its complement, ~id, which is negative.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "formats/atomic_file.h"
#include "formats/content_hash.h"
#include "formats/mapped_file.h"

namespace lathe {

struct TokenDocument {
  int64_t begin = 0;  // of its ids
  int32_t file = 0;   // in the list of files
  int32_t line = 0;   // from 1; 0: the whole file
};

// What is the same of ids from a shard and from an .npy file.
struct Tokens {
  std::shared_ptr<const MappedFile> file;    // what the spans lie in
  std::span<const int32_t> ids;              // complements where nothing is learnt
  std::span<const TokenDocument> documents;  // empty: one document
  std::string hash;                          // of all this
  int64_t skipped = 0;                       // bad lines that were left out
};

// The shard at `path`; nothing where there is none, or one of another key, or what is left of one.
std::optional<Tokens> open_token_shard(const std::string& path, const std::string& key);

class TokenShardWriter {
 public:
  // `key` is 32 characters (ContentHash::hex).
  TokenShardWriter(const std::string& path, const std::string& key);
  void begin_document(int32_t file, int32_t line) { documents_.push_back({tokens_, file, line}); }
  void add(std::span<const int32_t> ids);
  void skip_line() { ++skipped_; }
  // Throws Error naming the path and the system's reason where the disk is full, and leaves no file then.
  void commit();

 private:
  AtomicFile file_;
  std::string key_;
  ContentHash hash_;
  std::vector<TokenDocument> documents_;
  int64_t tokens_ = 0, skipped_ = 0;
};

}  // namespace lathe
