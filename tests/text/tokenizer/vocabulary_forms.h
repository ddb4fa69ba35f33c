// One small vocabulary of bytes in every form that a file can have, and random text for it.
#pragma once
#include <filesystem>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support.h"
#include "tests/text/tokenizer/small_vocabularies.h"

namespace lathe::test {

// A folder of a tokenizer's files.
struct Folder : TemporaryDirectory {
  std::string write(const std::string& name, const std::string& content) const {
    std::filesystem::create_directories((path() / name).parent_path());
    write_file(path() / name, content);
    return (path() / name).string();
  }
  std::string write(const std::string& name, const char* content) const { return write(name, std::string(content)); }
  std::string write(const std::string& name, const Json& json) const { return write(name, json.dump()); }
  std::string name() const { return path().string(); }
  std::shared_ptr<const Tokenizer> load(const std::string& pattern = {}) const {
    return Tokenizer::load(name(), pattern);
  }
};

// The bytes of the tokens: 0 to 255 (rank = byte), then " w" 256, "he" 257, "ll" 258, "hell" 259, "hello" 260 and the
// two bytes of U+00E9 261.
std::vector<std::string> byte_tokens();

std::string encode_base64(std::string_view bytes);
// Lines of base64, a space and a rank.
std::string tiktoken_ranks(const std::vector<std::string>& tokens);
// `special` tokens first, of which the file names those in `named`; null: the file has no list.
Json tekken_json(const std::vector<std::string>& tokens, int special, const Json& named, const char* version = "v7");
// vocab.json and merges.txt of the same tokens, written under these names; and "<|endoftext|>" as the last id.
void write_two_files(const std::filesystem::path& folder, const char* vocabulary = "vocab.json",
                     const char* merges = "merges.txt");

// Up to `length` characters of all planes: letters, white space, controls, combining marks, lone joiners, unassigned
// ones, and enough ASCII for something to merge.
std::string random_text(std::mt19937& random, int length);

}  // namespace lathe::test
