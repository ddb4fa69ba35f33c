// One function a subcommand: it declares its options on `app` and what to run when the command line is whole.
#pragma once

namespace lathe {

class CommandLine;

void add_bench(CommandLine& app);
void add_chat(CommandLine& app);
void add_convert(CommandLine& app);
void add_detokenize(CommandLine& app);
void add_evaluate(CommandLine& app);
void add_generate(CommandLine& app);
void add_inspect(CommandLine& app);
void add_logits(CommandLine& app);
void add_models(CommandLine& app);
void add_train(CommandLine& app);
void add_perplexity(CommandLine& app);
void add_plan(CommandLine& app);
void add_plot(CommandLine& app);
void add_render_chat(CommandLine& app);
void add_serve(CommandLine& app);
void add_simulate(CommandLine& app);
void add_tokenize(CommandLine& app);
void add_tokenizer(CommandLine& app);
void add_trace(CommandLine& app);

}  // namespace lathe
