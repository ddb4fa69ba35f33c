// One function a subcommand: it declares its options on `app` and what to run when the command line is whole.
#pragma once
#include <CLI/CLI.hpp>
#include <string>

namespace lathe {

void add_bench(CLI::App& app);
void add_chat(CLI::App& app);
void add_convert(CLI::App& app);
void add_detokenize(CLI::App& app);
void add_evaluate(CLI::App& app);
void add_generate(CLI::App& app);
void add_inspect(CLI::App& app);
void add_logits(CLI::App& app);
void add_models(CLI::App& app);
void add_perplexity(CLI::App& app);
void add_plan(CLI::App& app);
void add_render_chat(CLI::App& app);
void add_tokenize(CLI::App& app);
void add_trace(CLI::App& app);

}  // namespace lathe
