// What holds an answer to its request's grammar: which tokens may come next, and when it is over.
#pragma once
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "generate/request.h"
#include "text/grammar/grammar_matcher.h"

namespace lathe {

// Of one sequence; a copy goes its own way, as draft tokens do. Where the grammar is too ambiguous to go on, no token
// is allowed.
class Constraint {
 public:
  Constraint(std::shared_ptr<GrammarMatcher> matcher, std::vector<int32_t> stop_tokens);

  // SamplingRow::allowed: tokens that may follow, and where the answer may end its stop tokens.
  std::vector<uint32_t> allowed();
  void take(int32_t token);  // which is no stop token
  // Whether nothing may follow, and no stop token can say so.
  bool is_over() const { return over_; }
  // For kNoToken. Empty: it allows some, so it is the logits' fault.
  std::string why_no_token();

 private:
  std::shared_ptr<GrammarMatcher> matcher_;
  GrammarMatcher::State state_;
  std::vector<int32_t> stop_tokens_;
  bool over_ = false;
  std::string problem_;
};

// Makes them: what is found of a vocabulary and of the last grammars serves all requests.
class Constraints {
 public:
  // The tokenizer must live as long.
  Constraints(const Tokenizer& tokenizer, int64_t vocabulary) : tokenizer_(tokenizer), size_(vocabulary) {}
  Constraint of(const Request& request);

 private:
  const Tokenizer& tokenizer_;
  int64_t size_;
  std::shared_ptr<const VocabularyTrie> vocabulary_;      // made for the first grammar
  std::deque<std::shared_ptr<GrammarMatcher>> matchers_;  // the latest first
};

}  // namespace lathe
