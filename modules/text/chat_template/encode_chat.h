// A conversation to ids, with what users wrote kept apart from what the template wrote.
//
// A rendering is one text, in which "<|im_end|>" looks the same whoever wrote it. It is encoded with special tokens
// read, so without care a user could end his turn and write a system message. Where strings of the inputs spell special
// tokens (special_text.h), the conversation is therefore rendered twice, the second time with a marker character within
// each of these places; the second rendering without its markers must be the first, and then the markers tell which
// special tokens of it are a user's text. A template that looks at such a place (splits at "</think>") renders
// differently with a marker in it: there the markers are put round the place. Where none comes out between its markers,
// or the white space there is not treated as that round other text, the template has consumed the place, and what it
// wrote in its stead is its own.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "text/chat_template/chat_template.h"
#include "text/tokenizer/tokenizer.h"

namespace lathe {

// The rendering, encoded: special tokens that the template wrote are read, those in strings of the inputs are text,
// and nothing is added (a template writes its own BOS). Throws what render throws, and an Error naming the string and
// the token where the two renderings cannot be reconciled. Not seen: a token that the template itself puts together
// from pieces that are none of its ends, such as a role between "<|" and "|>".
std::vector<int32_t> encode_chat(const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                                 const ChatTemplate::Inputs& inputs);

// The tokenizer's chat template; with `for_tools` the one that it calls tool_use, where it has it. Throws Error naming
// `model` where it has none.
const std::string& chat_template_of(const Tokenizer& tokenizer, const std::string& model, bool for_tools = false);

// A template's variables that the tokenizer gives: the special tokens that have a name (bos_token, eos_token, ...).
ChatTemplate::Inputs chat_inputs(const Tokenizer& tokenizer);

// The rendering alone, with the bytes of it (offsets, ascending) that no special token may cover: one in each place
// that spells a special token and is a user's.
struct ChatRendering {
  std::string text;
  std::vector<std::size_t> plain_bytes;
};
ChatRendering render_chat(const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                          const ChatTemplate::Inputs& inputs);

}  // namespace lathe
