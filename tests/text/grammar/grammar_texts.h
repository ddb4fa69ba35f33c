// Grammars in tests: a vocabulary of many tokens, what a grammar accepts byte by byte, and random texts of it.
#pragma once
#include <random>
#include <vector>

#include "text/grammar/grammar_matcher.h"

namespace lathe::test {

// Every byte, and pieces of JSON of several bytes; the special tokens "<|im_end|>" and "<call>" come last.
std::shared_ptr<const Tokenizer> json_tokenizer();
std::shared_ptr<const VocabularyTrie> json_vocabulary();

// Whether `text` is one of the grammar's, read byte by byte.
bool accepts(GrammarMatcher& matcher, std::string_view text);
// CHECKs that all of `right` are, and none of `wrong`.
void check_texts(GrammarMatcher& matcher, const std::vector<const char*>& right, const std::vector<const char*>& wrong);

// A text of the grammar, each token at random among those that are allowed, behind 40 tokens among those that end
// something if there are any. Every mask is checked against its definition where `checked` says so; REQUIREs that there
// is no dead end.
std::string random_text(GrammarMatcher& matcher, std::mt19937& random, bool checked);

}  // namespace lathe::test
