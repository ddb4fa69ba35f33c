// The engine's settings as the command line gives them.
#pragma once
#include <functional>
#include <string>

#include "cli/model_options.h"
#include "generate/chat_model.h"

namespace lathe {

// `speculate`: "ngram", a model that guesses for `loaded` (it is loaded here, with the same options), or nothing.
// Throws Error where its vocabulary is another.
EngineOptions engine_options(const ModelOptions& options, const LoadedModel& loaded, const std::string& speculate = {});
// What --model names with its tokenizer, if there is one, and an engine of these settings; warnings on standard error.
// `adjust` may change the settings once the weights are there.
ChatModel load_chat_model(const ModelOptions& options, const std::string& speculate = {},
                          const std::function<void(const LoadedModel&, EngineOptions&)>& adjust = {});
// On standard error: how many draft tokens were accepted, what a speculative step costs and yields.
void print_speculation(const SpeculationControl& speculation);

}  // namespace lathe
