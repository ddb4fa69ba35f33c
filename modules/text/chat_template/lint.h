// What a person should know about a template and a conversation before trusting the prompt that they make.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "text/chat_template/chat_template.h"
#include "text/tokenizer/tokenizer.h"

namespace lathe {

// Warnings, each one line: a doubled BOS, a system prompt or user message that is not in the rendering, text of special
// tokens in messages, usual conversations that the template refuses, variables that it reads and nobody gave, a
// generation prompt without effect. Without a tokenizer (null) special tokens are those of the form <|...|> that
// `source`, the template's text, spells. Throws what rendering `inputs` throws.
std::vector<std::string> lint_chat(const ChatTemplate& chat_template, std::string_view source,
                                   const ChatTemplate::Inputs& inputs, const Tokenizer* tokenizer);

}  // namespace lathe
