// A folder of training data, and what opening it gives.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tests/support.h"
#include "train/dataset.h"

namespace lathe::test {

struct DataFolder {
  TemporaryDirectory folder;
  DataRecipe recipe;
  DataOptions options;

  DataFolder() { options.cache = (folder.path() / "cache").string(); }
  // Writes a file; its path.
  std::string write(const std::string& name, std::string_view content) const;
  // The same as data.train.
  void train(const std::string& name, std::string_view content) { recipe.train.push_back(write(name, content)); }
  TrainingData open() const { return open_data(recipe, options); }
  // The message with which it fails, its hint behind a " | "; empty where it does not.
  std::string refusal() const;
};

// An .npy file of one dimension.
template <class T>
std::string npy(const std::vector<T>& values, const std::string& type) {
  std::string header =
      "{'descr': '" + type + "', 'fortran_order': False, 'shape': (" + std::to_string(values.size()) + ",), }";
  header.resize(128 - 10 - 1, ' ');
  header += '\n';
  return std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(header.size()) + '\0' + header +
         std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

// The files of a tokenizer whose first ids are these special tokens, <|end|> the first of them and what ends a text,
// and then the 256 bytes in GPT-2's order; `merges` are pairs in GPT-2's spelling, "t h".
std::string byte_tokenizer(const std::vector<std::string>& special, const std::vector<std::string>& merges = {});

// What the ids spell, with what is learnt in brackets; ids as a token shard has them.
std::string marked(const Tokenizer& tokenizer, std::span<const int32_t> ids);
// The same of the sequence `piece` of rows: inputs that are followed by what is learnt.
std::string marked(const Tokenizer& tokenizer, const TrainingRows& rows, size_t piece);

}  // namespace lathe::test
