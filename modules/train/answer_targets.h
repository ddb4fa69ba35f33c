// Which tokens of a conversation, or of a prompt with its completion, are learnt.
//
// The whole is encoded once, as one text; what the model writes is found in it by bytes, and a token that covers bytes
// of both sides of a border is learnt: without it the answer's beginning would not be.
//
// An answer of the assistant begins where its prompt ends: what the messages before it render as, with the generation
// prompt. Where that is no beginning of the whole (templates drop the reasoning of earlier turns, or move a system
// prompt or tools to the last message), the answer begins where the end of that prompt, from the content of its last
// message on, follows this content in the whole; else with its own content. Contents are found by rendering once more
// with another one. An answer ends with the token that ends a turn, which is learnt, too; what the template writes
// behind that is not.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "text/chat_template/chat_template.h"
#include "text/tokenizer/tokenizer.h"

namespace lathe {

// Ids, where they are not learnt as their complements (token_shard.h).

// `inputs` but for add_generation_prompt. Answers among the first `given` messages are not learnt. Throws what
// rendering and encoding throw (encode_chat.h).
std::vector<int32_t> encode_answers(const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                                    ChatTemplate::Inputs inputs, size_t given = 0);

// With the tokens that the tokenizer puts round a text; behind it `end`, learnt, where that is not -1.
std::vector<int32_t> encode_completion(const Tokenizer& tokenizer, std::string_view prompt, std::string_view completion,
                                       int32_t end);

}  // namespace lathe
