// What a call that must be made may be: a tool's schema in the spelling of a form.
#pragma once
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "serve/tool_calls.h"
#include "text/grammar/grammar.h"

namespace lathe {

// A text of the form, in which special tokens may stand.
using SpelledText = std::function<GrammarPart(std::string_view)>;

// A call of one of `tools`, in OpenAI's form. Where a form writes texts as they are, any text stands for a string, but
// for one of an enum; and members that are not in `properties` cannot be had. Throws Error where a tool's parameters
// cannot be had as a grammar.
GrammarPart call_grammar(GrammarBuilder& g, const ToolForm& form, const nlohmann::ordered_json& tools,
                         const SpelledText& spelled);

}  // namespace lathe
