#include "tests/train/data_files.h"

#include <algorithm>

#include "tensor/errors.h"
#include "text/tokenizer/byte_alphabet.h"
#include "text/tokenizer/write_tokenizer.h"

namespace lathe::test {

std::string DataFolder::write(const std::string& name, std::string_view content) const {
  const std::filesystem::path path = folder.path() / name;
  std::filesystem::create_directories(path.parent_path());
  write_file(path, content);
  return path.string();
}

std::string DataFolder::refusal() const {
  try {
    open();
    return {};
  } catch (const Error& e) {
    return e.hint().empty() ? e.what() : std::string(e.what()) + " | " + e.hint();
  }
}

std::string byte_tokenizer(const std::vector<std::string>& special, const std::vector<std::string>& merges) {
  NewVocabulary vocabulary;
  vocabulary.tokens = special;
  vocabulary.special = static_cast<int32_t>(special.size());
  vocabulary.byte_level = true;
  for (int byte = 0; byte < 256; ++byte)
    vocabulary.tokens.push_back(bytes_to_alphabet(std::string(1, static_cast<char>(byte))));
  const auto id = [&](const std::string& token) {
    return static_cast<int32_t>(std::find(vocabulary.tokens.begin(), vocabulary.tokens.end(), token) -
                                vocabulary.tokens.begin());
  };
  for (const std::string& merge : merges) {
    const std::string left = merge.substr(0, merge.find(' ')), right = merge.substr(merge.find(' ') + 1);
    vocabulary.merges.push_back({id(left), id(right)});
    vocabulary.tokens.push_back(left + right);
  }
  return tokenizer_json(vocabulary);
}

std::string marked(const Tokenizer& tokenizer, std::span<const int32_t> ids) {
  std::string text;
  bool learnt = false;
  for (const int32_t id : ids) {
    if ((id >= 0) != learnt) text += learnt ? "]" : "[";
    learnt = id >= 0;
    text += tokenizer.token_bytes(id < 0 ? ~id : id);
  }
  return learnt ? text + "]" : text;
}

std::string marked(const Tokenizer& tokenizer, const TrainingRows& rows, size_t piece) {
  const auto begin = static_cast<size_t>(rows.seq_start.at(piece)),
             end = static_cast<size_t>(rows.seq_start.at(piece + 1));
  std::vector<int32_t> ids = {~rows.tokens.at(begin)};
  for (size_t i = begin; i < end; ++i) {
    const int32_t next = i + 1 < end ? rows.tokens[i + 1] : rows.targets[i];
    ids.push_back(rows.targets[i] >= 0 ? rows.targets[i] : next >= 0 ? ~next : ~rows.tokens[i]);
  }
  return marked(tokenizer, ids);
}

}  // namespace lathe::test
