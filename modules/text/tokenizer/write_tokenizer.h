// The files of a vocabulary that is made here: tokenizer.json of the library `tokenizers` (version 1.0 of its format)
// and transformers' tokenizer_config.json.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace lathe {

struct NewVocabulary {
  std::vector<std::string> tokens;             // by id, as the file spells them
  std::vector<std::array<int32_t, 2>> merges;  // ids, in the order of their ranks
  int32_t special = 0;                         // so many of the first tokens are special
  bool byte_level = false;                     // GPT-2's pattern and alphabet; else characters, merged over any border
};

std::string tokenizer_json(const NewVocabulary& vocabulary);
// Text is decoded as it is; the first special token, where there is one, ends a text.
std::string tokenizer_config_json(const NewVocabulary& vocabulary);

}  // namespace lathe
