// /v1/completions: texts, or lists of ids, continued.
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "serve/endpoints.h"
#include "serve/logprobs.h"
#include "serve/openai_answer.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;
constexpr int64_t kDefaultTokens = 16;  // OpenAI's
constexpr int64_t kMostLogprobs = 100;  // a token
constexpr size_t kMostPrompts = 2048;   // a request

struct CompletionPrompt {
  std::vector<int32_t> tokens;
  std::string text;   // as it was given, or what the ids decode to
  size_t hidden = 0;  // first tokens that the tokenizer added: they are no part of `text`
};

class CompletionAnswer final : public OpenAiAnswer {
 public:
  CompletionAnswer(const ServedModel& model, const OrderedJsonNode& body);

 private:
  CompletionPrompt prompt_of(const std::string& text) const;
  CompletionPrompt prompt_of(std::vector<int32_t> ids) const;
  std::optional<Json> delta(size_t request, const GenerationEvent& event) override;
  Json whole(size_t request, const Completion& completion) override;
  void choose(std::vector<Json>& choices) override;
  void add_prompt(LegacyLogprobs& list, size_t request);
  std::string_view reason(const Completion& c) const { return scores_only_ ? "length" : name(c.finish_reason); }

  const Tokenizer* tokenizer_;
  std::vector<CompletionPrompt> prompts_;
  int64_t n_ = 1;               // choices a prompt, of the num_sequences that are generated
  std::vector<double> scores_;  // where those are more: by choice, the mean log-probability of its tokens
  bool logprobs_ = false;       // are shown
  bool echo_ = false, ids_ = false;
  bool scores_only_ = false;                  // max_tokens is 0: the token that the engine must make is not shown
  std::map<size_t, LegacyLogprobs> streams_;  // by choice
  std::set<size_t> begun_;
};

CompletionAnswer::CompletionAnswer(const ServedModel& model, const OrderedJsonNode& body)
    : OpenAiAnswer(model, "cmpl", "text_completion", "text_completion"),
      tokenizer_(model.chat().has_tokenizer() ? model.chat().tokenizer().get() : nullptr) {
  RequestFields fields(body);
  read_common(fields);
  fields.read("logprobs", [&](const OrderedJsonNode& node) { options_.logprobs = node.integer(0, kMostLogprobs); });
  logprobs_ = options_.logprobs.has_value();
  fields.calls("max_new_tokens", "max_tokens");
  echo_ = fields.flag("echo", false);
  if (echo_) prompt_logprobs_ = options_.logprobs;
  int64_t most = kDefaultTokens;
  fields.read("max_tokens", [&](const OrderedJsonNode& node) {
    most = node.integer(echo_ ? 0 : 1);
    scores_only_ = most == 0;
  });
  n_ = options_.num_sequences;
  fields.read("best_of", [&](const OrderedJsonNode& node) {
    options_.num_sequences = node.integer(n_, kMostChoices);
    if (options_.num_sequences == n_) return;
    if (stream) throw ApiError(400, "best_of must be n in a stream: the best is known at the end", "best_of");
    if (!logprobs_) options_.logprobs = 0;
  });
  fields.only("suffix", "");
  ids_ = fields.flag("return_token_ids", false);
  fields.read("prompt", [&](const OrderedJsonNode& node) {
    for (const OrderedJsonNode& text : read_texts(node, kMostPrompts))
      prompts_.push_back(text.value().is_string() ? prompt_of(text.string()) : prompt_of(read_ids(text)));
  });
  fields.finish();
  if (prompts_.empty()) throw ApiError(400, "prompt is missing", "prompt");
  for (const CompletionPrompt& prompt : prompts_) add_request(fields, prompt.tokens, std::max<int64_t>(1, most));
}

CompletionPrompt CompletionAnswer::prompt_of(const std::string& text) const {
  CompletionPrompt prompt{model_.tokenizer().encode(text), text};
  while (prompt.hidden < prompt.tokens.size() && prompt.tokens[prompt.hidden] == tokenizer_->bos() &&
         !text.starts_with(tokenizer_->token_text(prompt.tokens[prompt.hidden])))
    ++prompt.hidden;
  if (prompt.tokens.empty()) throw ApiError(400, "the prompt has no token", "prompt");
  return prompt;
}

CompletionPrompt CompletionAnswer::prompt_of(std::vector<int32_t> ids) const {
  CompletionPrompt prompt{std::move(ids), {}};
  if (tokenizer_) prompt.text = tokenizer_->decode(prompt.tokens);
  return prompt;
}

void CompletionAnswer::add_prompt(LegacyLogprobs& list, size_t request) {
  const CompletionPrompt& prompt = prompts_[request];
  list.add_first(prompt.tokens[0], prompt.hidden == 0);
  for (const TokenLogprobs& of : prompt_scores_[request]) list.add(of);
}

std::optional<Json> CompletionAnswer::delta(size_t request, const GenerationEvent& event) {
  const size_t index = choice_index(request, event.sequence);
  const bool first = begun_.insert(index).second;
  std::string text = first && echo_ ? prompts_[request].text : "";
  if (!scores_only_) text += event.text;
  Json choice = {{"index", index}, {"text", text}, {"logprobs", nullptr}, {"finish_reason", nullptr}};
  if (logprobs_) {
    LegacyLogprobs& list = streams_.try_emplace(index, tokenizer_, ids_).first->second;
    if (first && echo_) add_prompt(list, request);
    if (event.logprobs && !scores_only_) list.add(*event.logprobs);
    choice["logprobs"] = list.take();
  }
  if (event.completion) choice["finish_reason"] = reason(*event.completion);
  if (text.empty() && !logprobs_ && !event.completion) return std::nullopt;
  return choice;
}

Json CompletionAnswer::whole(size_t request, const Completion& c) {
  std::string text = echo_ ? prompts_[request].text : "";
  if (!scores_only_) text += c.text.value_or("");
  Json logprobs = nullptr;
  if (options_.num_sequences > n_) {
    const size_t index = choice_index(request, c.sequence);
    scores_.resize(std::max(scores_.size(), index + 1));
    scores_[index] = 0;
    for (const TokenLogprobs& of : c.logprobs)
      scores_[index] += finite_logprob(of.chosen.logprob) / static_cast<double>(c.logprobs.size());
  }
  if (logprobs_) {
    LegacyLogprobs list(tokenizer_, ids_);
    if (echo_) add_prompt(list, request);
    if (!scores_only_)
      for (const TokenLogprobs& of : c.logprobs) list.add(of);
    logprobs = list.take();
  }
  return {{"index", choice_index(request, c.sequence)},
          {"text", text},
          {"logprobs", logprobs},
          {"finish_reason", reason(c)}};
}

// The n best of each prompt's candidates, the best one first.
void CompletionAnswer::choose(std::vector<Json>& choices) {
  if (options_.num_sequences == n_) return;
  std::vector<Json> best;
  for (size_t first = 0; first < choices.size(); first += static_cast<size_t>(options_.num_sequences)) {
    std::vector<size_t> order(static_cast<size_t>(options_.num_sequences));
    std::iota(order.begin(), order.end(), first);
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores_[a] > scores_[b]; });
    for (size_t i = 0; i < static_cast<size_t>(n_); ++i) {
      best.push_back(std::move(choices[order[i]]));
      best.back()["index"] = best.size() - 1;
    }
  }
  choices = std::move(best);
}

}  // namespace

std::unique_ptr<Answer> make_completion(const ServedModel& model, const OrderedJsonNode& body) {
  return std::make_unique<CompletionAnswer>(model, body);
}

}  // namespace lathe
