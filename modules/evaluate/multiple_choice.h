// Multiple-choice tasks: which of several continuations a model finds most probable, as lm-evaluation-harness scores
// them (Gao et al.), and the readers of HellaSwag and MMLU files.
//
//   acc       the choice with the highest log p(choice | context)
//   acc_norm  the same divided by the choice's length in characters, the space before it not counted
//
// Ids: those of the context, then what the ids of context + choice have beyond as many; spaces at the end of a context
// belong to the choice. Where the tokenizer begins texts with BOS so does the context; nothing else is added.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "llm/causal_lm.h"
#include "text/tokenizer/tokenizer.h"

namespace lathe {

struct MultipleChoiceTask {
  int64_t line = 0;  // of the file, from 1
  std::string context;
  std::vector<std::string> choices;  // with the space that parts them from the context
  std::vector<int64_t> lengths;      // that acc_norm divides by, in characters
  int64_t label = 0;                 // index of the right choice
};

struct MultipleChoiceFile {
  std::string source;  // its path, for messages
  int64_t shots = 0;   // solved examples before each question
  std::vector<MultipleChoiceTask> tasks;
};

// Six lines a task: context, index of the right ending, four endings. Throws Error naming file and line.
MultipleChoiceFile read_hellaswag(const std::string& path);
// CSV: question, four choices, answer (0-3 or A-D); a row whose last field is "answer" is a header. The prompt is
// Hendrycks et al.'s: "The following are multiple choice questions (with answers) about SUBJECT.", `shots` examples
// from SUBJECT_dev.csv beside the file (unset: up to 5 where it is there), the question, its choices, "Answer:"; the
// choices are " A" to " D". SUBJECT is the file's name without _test. Throws Error naming file and line.
MultipleChoiceFile read_mmlu(const std::string& path, std::optional<int64_t> shots = {});

struct MultipleChoiceScore {
  std::vector<double> logprobs;               // log p(choice | context), in nats
  int64_t choice = 0, normalised_choice = 0;  // the best by log p, and by log p / length; the first among equals
};

// Called after each task; false ends the scoring there.
using ScoreProgress = std::function<bool(size_t index, const MultipleChoiceScore&)>;

// Scores the first `limit` tasks (0: all). What a context shares with the one before it (the examples of MMLU) is not
// computed again, and neither is the context for each choice. `context_limit`: tokens that a sequence may have. Throws
// Error naming file and line before anything is computed: text that is not UTF-8, a choice without a token of its own,
// a task longer than the limit.
std::vector<MultipleChoiceScore> score_choices(const CausalLM& model, DType cache_dtype, const Tokenizer& tokenizer,
                                               const MultipleChoiceFile& file, int64_t limit, int64_t context_limit,
                                               const ScoreProgress& progress = {});

}  // namespace lathe
