#include "generate/constraint.h"

#include <algorithm>

namespace lathe {

Constraint::Constraint(std::shared_ptr<GrammarMatcher> matcher, std::vector<int32_t> stop_tokens)
    : matcher_(std::move(matcher)), state_(matcher_->begin()), stop_tokens_(std::move(stop_tokens)) {}

std::vector<uint32_t> Constraint::allowed() try {
  std::vector<uint32_t> bits = matcher_->allowed(state_);
  const bool may_end = matcher_->may_end(state_);
  for (const int32_t stop : stop_tokens_) {
    if (stop < 0 || static_cast<size_t>(stop) / 32 >= bits.size()) continue;
    uint32_t& word = bits[static_cast<size_t>(stop) / 32];
    word = may_end ? word | 1u << stop % 32 : word & ~(1u << stop % 32);
  }
  return bits;
} catch (const Error& e) {
  problem_ = e.what();
  return std::vector<uint32_t>(matcher_->words());
}

void Constraint::take(int32_t token) try {
  state_ = matcher_->after(state_, token);
  over_ = stop_tokens_.empty() && matcher_->must_end(state_);
} catch (const Error& e) {
  problem_ = e.what();
  state_.clear();
}

std::string Constraint::why_no_token() {
  const std::vector<uint32_t> bits = allowed();
  if (!problem_.empty()) return problem_;
  if (std::any_of(bits.begin(), bits.end(), [](uint32_t word) { return word != 0; })) return {};
  return "grammar: no token may follow: the vocabulary lacks bytes that are needed";
}

Constraint Constraints::of(const Request& request) {
  constexpr size_t kKept = 8;
  if (!vocabulary_) vocabulary_ = std::make_shared<const VocabularyTrie>(tokenizer_, size_);
  const auto found =
      std::find_if(matchers_.begin(), matchers_.end(), [&](const auto& m) { return m->grammar() == *request.grammar; });
  std::shared_ptr<GrammarMatcher> matcher;
  if (found != matchers_.end()) {
    if (!(*found)->is_worn()) matcher = *found;
    matchers_.erase(found);
  }
  if (!matcher) matcher = std::make_shared<GrammarMatcher>(request.grammar, vocabulary_);
  matchers_.push_front(matcher);
  if (matchers_.size() > kKept) matchers_.pop_back();
  return {matcher, request.ignore_eos ? std::vector<int32_t>() : request.stop_tokens};
}

}  // namespace lathe
