// lathe logits: the logits of given tokens as a NumPy file.
#include <memory>

#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/model_options.h"
#include "cli/profile_report.h"
#include "formats/npy.h"
#include "generate/sequence_cache.h"

namespace lathe {

void add_logits(CommandLine& app) {
  struct Options {
    ModelOptions model;
    std::string tokens;
  };
  const auto o = std::make_shared<Options>();
  const Command command = app.add("logits", "write the logits of given tokens");
  o->model.declare(command);
  command.option("--tokens", o->tokens, "ids separated by commas; - reads them from standard input").required();
  command.output("--output", o->model.output, "float32 [tokens, vocab_size] as .npy").required();
  command.example("Example: lathe logits --model models/SmolLM2-135M --tokens 504,3575,282 --output logits.npy");
  command.run([o] {
    const std::vector<int32_t> tokens = parse_tokens(o->tokens == "-" ? read_text("-") : o->tokens);
    const LoadedModel loaded = o->model.load();
    check_tokens(tokens, loaded.model->sizes.vocab_size);
    check_context(static_cast<int64_t>(tokens.size()), o->model.context_limit(loaded.model->sizes));
    ProfileReport profile(o->model);
    const Tensor logits = all_logits(*loaded.model, tokens, o->model.cache_dtype(loaded));
    profile.finish();
    if (loaded.model->ranks->is_first()) write_npy(o->model.output, logits);
  });
}

}  // namespace lathe
