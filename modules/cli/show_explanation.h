// An Explanation for a person to read, or as JSON.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "text/tokenizer/explanation.h"
#include "text/tokenizer/tokenizer.h"

namespace lathe {

// Lines of text. White space and controls are made visible: a space is shown as "·", a line feed as "\n". A piece of at
// most 32 symbols is shown whole after each step.
std::string explanation_text(const Tokenizer& tokenizer, const Explanation& explanation);

// {"tokens": [ids], "before": [token], "after": [token], "measure": "rank", "stretches": [
//   {"text", "token": token} or {"text", "normalized", "pieces": [{"text", "added", "steps": [step], "tokens":
//   [token]}]}
// ]}; a token is {"id", "text", "bytes": "20 68"}, a step {"step": "symbol"|"token", "text", "id"} or
// {"step": "merge", "left", "right", "text", "id"}, with the measure's name and the weight where it has one.
nlohmann::ordered_json explanation_json(const Tokenizer& tokenizer, const Explanation& explanation);

// "20 68"
std::string show_bytes(std::string_view bytes);

}  // namespace lathe
