// A byte-level tokenizer without merges, for tests that choose their tokens.
#pragma once
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support.h"
#include "text/tokenizer/byte_alphabet.h"
#include "text/tokenizer/tokenizer.h"

namespace lathe::test {

// Ids count up through `tokens`, which are bytes, and on through the special tokens.
inline std::shared_ptr<const Tokenizer> byte_level_tokenizer(const std::vector<std::string>& tokens,
                                                             const std::vector<std::string>& special) {
  nlohmann::json vocabulary, added = nlohmann::json::array();
  for (size_t i = 0; i < tokens.size(); ++i) vocabulary[bytes_to_alphabet(tokens[i])] = i;
  for (const std::string& content : special)
    added.push_back({{"id", tokens.size() + added.size()},
                     {"content", content},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  const nlohmann::json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  const nlohmann::json file = {
      {"version", "1.0"},
      {"added_tokens", added},
      {"normalizer", nullptr},
      {"pre_tokenizer", byte_level},
      {"post_processor", nullptr},
      {"decoder", byte_level},
      {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", nlohmann::json::array()}}}};
  const TemporaryDirectory folder;
  write_file(folder.path() / "tokenizer.json", file.dump());
  return Tokenizer::load((folder.path() / "tokenizer.json").string());
}

// Those of single bytes, whose ids are the bytes.
inline std::vector<std::string> single_bytes() {
  std::vector<std::string> tokens;
  for (int b = 0; b < 256; ++b) tokens.emplace_back(1, static_cast<char>(b));
  return tokens;
}

}  // namespace lathe::test
