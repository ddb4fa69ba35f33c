// Texts that a model writes while it is trained.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "llm/causal_lm.h"
#include "text/tokenizer/tokenizer.h"
#include "train/dataset.h"

namespace lathe {

struct Sample {
  std::string prompt, text;  // text: what follows the prompt
};
// `count` of them, each begun with the first tokens of a row of the data. Drawn at temperature 0.8, at most `tokens`
// new tokens within `context`; the same ones for the same weights.
std::vector<Sample> write_samples(const CausalLM& model, const std::shared_ptr<const Tokenizer>& tokenizer,
                                  const Dataset& data, int64_t count, int64_t tokens, int64_t context);

}  // namespace lathe
