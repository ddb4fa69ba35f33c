#include "evaluate/multiple_choice.h"

#include <algorithm>

#include "evaluate/token_scores.h"
#include "generate/sequence_cache.h"

namespace lathe {
namespace {

using Ids = std::vector<int32_t>;

struct EncodedTask {
  Ids context;
  std::vector<Ids> choices;
};

class TaskEncoder {
 public:
  explicit TaskEncoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {
    const Ids of_nothing = tokenizer.encode("");
    if (!of_nothing.empty() && tokenizer.bos() == of_nothing.front()) bos_ = of_nothing.front();
  }

  EncodedTask encode(const MultipleChoiceTask& task) const {
    const size_t text_end = task.context.find_last_not_of(" \t\n\v\f\r") + 1;
    const std::string context = task.context.substr(0, text_end), spaces = task.context.substr(text_end);
    EncodedTask encoded{encode(context), {}};
    check(!encoded.context.empty(), "evaluate", "the context has no tokens");
    for (const std::string& choice : task.choices) {
      const Ids whole = encode(context + spaces + choice);
      check(whole.size() > encoded.context.size(), "evaluate", "choice \"{}\" has no token of its own", choice);
      encoded.choices.emplace_back(whole.begin() + std::ssize(encoded.context), whole.end());
    }
    return encoded;
  }

 private:
  Ids encode(const std::string& text) const {
    EncodeOptions options;
    options.add_special_tokens = false;
    Ids ids = tokenizer_.encode(text, options);
    if (bos_) ids.insert(ids.begin(), *bos_);
    return ids;
  }
  const Tokenizer& tokenizer_;
  std::optional<int32_t> bos_;
};

void check_task(const EncodedTask& task, const ModelSizes& config, int64_t context_limit) {
  const auto check_ids = [&](const Ids& ids) {
    for (const int32_t id : ids)
      check(id < config.vocab_size, "evaluate", "id {} is outside the model's vocabulary [0, {})", id,
            config.vocab_size);
  };
  check_ids(task.context);
  for (const Ids& choice : task.choices) {
    check_ids(choice);
    const int64_t tokens = std::ssize(task.context) + std::ssize(choice);
    check(tokens <= context_limit, "evaluate", "the task has {} tokens, the context holds {}", tokens, context_limit);
  }
}

std::vector<EncodedTask> encode_tasks(const Tokenizer& tokenizer, const MultipleChoiceFile& file, size_t count,
                                      const ModelSizes& config, int64_t context_limit) {
  const TaskEncoder encoder(tokenizer);
  std::vector<EncodedTask> encoded;
  for (size_t i = 0; i < count; ++i) {
    const MultipleChoiceTask& task = file.tasks[i];
    try {
      encoded.push_back(encoder.encode(task));
      check_task(encoded.back(), config, context_limit);
    } catch (const Error& e) {
      throw Error(fmt::format("{}: line {}: {}", file.source, task.line, e.what()), e.hint());
    }
  }
  return encoded;
}

// The cache that any of the tasks needs: a context, and its choices behind copies of its last page.
SequenceCache make_cache(const CausalLM& model, DType dtype, const std::vector<EncodedTask>& tasks) {
  int64_t pages = 0;
  for (const EncodedTask& task : tasks) {
    const int64_t context = std::ssize(task.context);
    int64_t needed = pages_for(context) + 1;
    for (const Ids& choice : task.choices) needed += pages_for(std::ssize(choice)) + 1;
    pages = std::max(pages, needed);
  }
  return {model, dtype, pages * kPageTokens, pages};
}

class ChoiceScorer {
 public:
  ChoiceScorer(const CausalLM& model, DType cache_dtype, const std::vector<EncodedTask>& tasks)
      : model_(model), cache_(make_cache(model, cache_dtype, tasks)) {}

  // log p(choice | context) of each choice.
  std::vector<double> score(const EncodedTask& task) {
    const Tensor context = feed_context(task);  // (n, C)
    const Tensor last = context.row_range(context.dim(0) - 1, context.dim(0));
    const Tensor choices = feed_choices(task);  // (sum of lengths - 1, C), undefined where all have one token
    Ids targets;
    for (const Ids& choice : task.choices) targets.insert(targets.end(), choice.begin(), choice.end());
    // Row by row: what precedes the first token of a choice is the context, alike for all of them.
    const Tensor rows = Tensor::empty({std::ssize(targets), last.dim(1)}, last.dtype(), last.device());  // (R, C)
    int64_t row = 0, fed = 0;
    for (const Ids& choice : task.choices) {
      const int64_t more = std::ssize(choice) - 1;
      rows.row_range(row, row + 1).copy_from(last);
      if (more > 0) rows.row_range(row + 1, row + 1 + more).copy_from(choices.row_range(fed, fed + more));
      row += 1 + more;
      fed += more;
    }
    const std::vector<double> by_token = target_log_probabilities(model_, rows, targets);
    std::vector<double> sums;
    auto token = by_token.begin();
    for (const Ids& choice : task.choices) {
      double sum = 0.0;
      for (size_t i = 0; i < choice.size(); ++i) sum += *token++;
      sums.push_back(sum);
    }
    return sums;
  }

 private:
  // Hidden states of the context's tokens beyond what it shares with the one before it; at least of the last.
  // Rotary frequencies that depend on the length are those of the task's longest text.
  Tensor feed_context(const EncodedTask& task) {
    const Ids& context = task.context;
    int64_t longest = 0;
    for (const Ids& choice : task.choices) longest = std::max(longest, std::ssize(context) + std::ssize(choice));
    CachedSequence fresh = cache_.begin(longest);
    if (fresh.rope != held_.rope) {
      cache_.release(held_);
      held_ = std::move(fresh);
      held_ids_.clear();
    }
    const auto differ = std::mismatch(held_ids_.begin(), held_ids_.end(), context.begin(), context.end());
    const int64_t shared = std::min(differ.second - context.begin(), std::ssize(context) - 1);
    CachedSequence next = cache_.fork(held_, shared);
    cache_.release(held_);
    held_ = std::move(next);
    held_ids_ = context;
    const SequenceCache::Extension rest{&held_, std::span(held_ids_).subspan(static_cast<size_t>(shared))};
    return cache_.extend({&rest, 1});
  }

  // Hidden states of the choices' tokens but each one's last.
  Tensor feed_choices(const EncodedTask& task) {
    std::vector<CachedSequence> forks(task.choices.size());
    std::vector<SequenceCache::Extension> extensions;
    for (size_t i = 0; i < forks.size(); ++i) {
      const std::span<const int32_t> fed(task.choices[i].data(), task.choices[i].size() - 1);
      if (fed.empty()) continue;
      forks[i] = cache_.fork(held_, held_.length);
      extensions.push_back({&forks[i], fed});
    }
    Tensor hidden = extensions.empty() ? Tensor{} : cache_.extend(extensions);
    for (CachedSequence& fork : forks) cache_.release(fork);
    return hidden;
  }

  const CausalLM& model_;
  SequenceCache cache_;
  CachedSequence held_;
  Ids held_ids_;  // its tokens
};

int64_t index_of_maximum(const std::vector<double>& values) {
  return std::max_element(values.begin(), values.end()) - values.begin();
}

}  // namespace

std::vector<MultipleChoiceScore> score_choices(const CausalLM& model, DType cache_dtype, const Tokenizer& tokenizer,
                                               const MultipleChoiceFile& file, int64_t limit, int64_t context_limit,
                                               const ScoreProgress& progress) {
  check(!file.tasks.empty(), "evaluate", "{} has no tasks", file.source);
  const size_t count = limit > 0 ? std::min(file.tasks.size(), static_cast<size_t>(limit)) : file.tasks.size();
  const std::vector<EncodedTask> tasks = encode_tasks(tokenizer, file, count, model.sizes, context_limit);
  ChoiceScorer scorer(model, cache_dtype, tasks);
  std::vector<MultipleChoiceScore> scores;
  for (size_t i = 0; i < count; ++i) {
    MultipleChoiceScore& s = scores.emplace_back();
    s.logprobs = scorer.score(tasks[i]);
    s.choice = index_of_maximum(s.logprobs);
    std::vector<double> normalised;
    for (size_t c = 0; c < s.logprobs.size(); ++c)
      normalised.push_back(s.logprobs[c] / static_cast<double>(file.tasks[i].lengths[c]));
    s.normalised_choice = index_of_maximum(normalised);
    if (progress && !progress(i, s)) break;
  }
  return scores;
}

}  // namespace lathe
