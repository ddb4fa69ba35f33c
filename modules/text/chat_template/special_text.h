// Where what a template is given spells special tokens.
//
// Messages, tools and variables come from users; "<|im_end|>" in one of their strings is text, and must stay text when
// the rendering is encoded (encode_chat.h). Also found are strings that begin with the end of a special token or end
// with its beginning, because what stands beside them may complete it. A variable that is one special token and nothing
// else, as bos_token and eos_token are, is the model's own and is left out.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat_template/chat_template.h"
#include "text/tokenizer/tokenizer.h"

namespace lathe {

struct SpecialText {
  std::size_t string;       // which of the strings of the inputs, in the order of map_strings
  std::size_t begin, size;  // bytes of it; at least two characters, unless the token has but one
  int32_t token;
  bool is_whole;   // false: the end or the beginning of the token
  std::string in;  // "messages[1].content"
};

// All of them, by string, then by where they begin; they may overlap.
std::vector<SpecialText> find_special_text(const Tokenizer& tokenizer, const ChatTemplate::Inputs& inputs);

// The inputs with each string of messages, tools, documents and variables, keys of objects included, replaced by what
// `replace` makes of its path and text. Always in the same order.
using ReplaceString = std::function<std::string(const std::string& path, const std::string& text)>;
ChatTemplate::Inputs map_strings(const ChatTemplate::Inputs& inputs, const ReplaceString& replace);

}  // namespace lathe
