// lathe trace: every tapped activation of one forward pass, and the gradients of its loss, as safetensors.
#include "llm/trace.h"

#include <fmt/core.h>

#include <memory>

#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/model_options.h"
#include "cli/profile_report.h"
#include "formats/safetensors.h"
#include "tensor/communicator.h"

namespace lathe {

void add_trace(CommandLine& app) {
  struct Options {
    ModelOptions model;
    std::string tokens, filter = "*";
    bool gradients = false;
  };
  const auto o = std::make_shared<Options>();
  const Command command = app.add("trace", "write every named activation, and gradients on request");
  o->model.declare(command);
  command.option("--tokens", o->tokens, "ids separated by commas").required();
  command.output("--output", o->model.output, "safetensors file").required();
  command.option("--filter", o->filter, "only taps whose name matches, such as 'model.layers.0.*'").shows_default();
  command.flag("--gradients", o->gradients,
               "also loss (mean next-token cross-entropy) and grad.<checkpoint tensor name>");
  command.example("Example: lathe trace --model models/SmolLM2-135M --tokens 504,3575,282 --output trace.safetensors");
  command.run([o] {
    if (!world().alone())
      throw Error("trace: the parts that several processes have are not traced", "start one process");
    const std::vector<int32_t> tokens = parse_tokens(o->tokens);
    const LoadedModel loaded = o->model.load(o->gradients);
    const CausalLM& model = *loaded.model;
    check_tokens(tokens, model.sizes.vocab_size);
    check_context(static_cast<int64_t>(tokens.size()), o->model.context_limit(model.sizes));
    ProfileReport profile(o->model);
    NamedTensors all = trace(model, tokens, o->filter);
    if (o->gradients)
      for (auto& entry : loss_and_gradients(loaded, tokens)) all.push_back(std::move(entry));
    profile.finish();
    write_safetensors(o->model.output, all, {{"format", "pt"}});
    fmt::print(stderr, "lathe: wrote {} tensors to {}\n", all.size(), o->model.output);
  });
}

}  // namespace lathe
