// What a fuzzer does with a vocabulary that loaded: text to ids and back, and the laws that hold for every one.
#pragma once
#include <cstdlib>

#include "tensor/errors.h"
#include "text/tokenizer/explanation.h"
#include "text/tokenizer/tokenizer.h"
#include "text/tokenizer/tokenizer_parts.h"
#include "text/unicode/unicode.h"

namespace lathe::test {

inline void exercise(TokenizerParts parts) {
  const Tokenizer tokenizer(std::move(parts));
  const std::string long_run(200, 'a');
  for (const std::string& text :
       {std::string("Hello, world! it's 12345\n\t  \u00e9e\u0301\u65e5\u672c \U0001F600\u200d\U0001F600 <s></s>"),
        long_run, std::string("a")}) {
    std::vector<int32_t> ids;
    try {
      ids = tokenizer.encode(text);
      if (tokenizer.explain(text).ids() != ids) std::abort();
    } catch (const Error&) {}  // a pattern that backtracks without end
    // Ids that belong to no token, too.
    for (const int32_t id : {0, 1, 300, 7, -1, 1 << 24}) ids.push_back(id);
    const std::string whole = tokenizer.decode(ids);
    if (first_invalid_utf8(whole)) std::abort();
    StreamDecoder stream(tokenizer);
    std::string shown;
    for (const int32_t id : ids) {
      shown += stream.push(id);
      tokenizer.token_bytes(id);
      tokenizer.token_text(id);
    }
    if (shown + stream.finish() != whole) std::abort();
  }
  tokenizer.end_of_turn_tokens();
}

}  // namespace lathe::test
