#include "tests/text/grammar/grammar_texts.h"

#include <functional>

#include "tests/byte_level_tokenizer.h"
#include "tests/catch.h"

namespace lathe::test {

std::shared_ptr<const Tokenizer> json_tokenizer() {
  static const std::shared_ptr<const Tokenizer> tokenizer = [] {
    std::vector<std::string> tokens = single_bytes();
    for (const char* piece : {"{\"",    "\":", "\": \"", "\",",    "\", \"", "\"}",      "\"]",      "},",
                              "]}",     "}}",  "\n ",    "\n  \"", "  ",     "00",       "12",       "-1",
                              ".5",     "e+",  "tr",     "true",   "rue,",   "null",     "name",     "nam",
                              "age\":", "\\u", "\\n",    "\\\"",   "d83d",   "\xC3\xA9", "\xF0\x9F", "\xE2\x82\xAC\"",
                              "ab",     "abc", " the",   "2024",   "-0",     "call",     "</think>", "k>\n\n{",
                              "[[",     "[]",  "{}",     ",\"",    "x\xFFy"})
      tokens.emplace_back(piece);
    return byte_level_tokenizer(tokens, {"<|im_end|>", "<call>"});
  }();
  return tokenizer;
}

std::shared_ptr<const VocabularyTrie> json_vocabulary() {
  // Rows that no token has, as models have them.
  static const auto vocabulary =
      std::make_shared<const VocabularyTrie>(*json_tokenizer(), json_tokenizer()->vocab_size() + 7);
  return vocabulary;
}

bool accepts(GrammarMatcher& matcher, std::string_view text) {
  const auto state = text.empty() ? matcher.begin() : matcher.after(matcher.begin(), text);
  return matcher.may_end(state);
}

void check_texts(GrammarMatcher& matcher, const std::vector<const char*>& right,
                 const std::vector<const char*>& wrong) {
  for (const char* text : right) {
    INFO("right: " << text);
    CHECK(accepts(matcher, text));
  }
  for (const char* text : wrong) {
    INFO("wrong: " << text);
    CHECK(!accepts(matcher, text));
  }
}

std::string random_text(GrammarMatcher& matcher, std::mt19937& random, bool checked) {
  const VocabularyTrie& vocabulary = *json_vocabulary();
  std::string text;
  auto state = matcher.begin();
  for (int length = 0; !matcher.must_end(state); ++length) {
    const std::vector<uint32_t> bits = matcher.allowed(state);
    std::vector<int32_t> tokens, closing;
    for (int32_t t = 0; t < static_cast<int32_t>(vocabulary.size()); ++t) {
      const bool allowed = (bits[static_cast<size_t>(t) / 32] >> t % 32 & 1) != 0;
      if (const bool allowed_differs_from_bytes = checked && allowed == matcher.after(state, t).empty()) {
        INFO("token " << t << " " << vocabulary.bytes(t) << " behind " << text);
        CHECK(!allowed_differs_from_bytes);
      }
      if (!allowed) continue;
      tokens.push_back(t);
      const std::string& bytes = vocabulary.bytes(t);
      if (bytes == "\"" || bytes == "\"}" || bytes == "\"]" || bytes == "]" || bytes == "}") closing.push_back(t);
    }
    // A quotation mark first: the others may be characters of a string.
    const auto quotes = [&](int32_t t) { return vocabulary.bytes(t)[0] == '"'; };
    if (std::any_of(closing.begin(), closing.end(), quotes)) std::erase_if(closing, std::not_fn(quotes));
    if (matcher.may_end(state) && (tokens.empty() || random() % 4 == 0 || length > 40)) break;
    INFO("behind " << text);
    REQUIRE(!tokens.empty());
    REQUIRE(length < 4000);
    const std::vector<int32_t>& from = length > 40 && !closing.empty() ? closing : tokens;
    const int32_t token = from[random() % from.size()];
    text += vocabulary.bytes(token);
    state = matcher.after(state, token);
  }
  return text;
}

}  // namespace lathe::test
