// lathe trace: every tapped activation of one forward pass, and the gradients of its loss, as safetensors.
#include <fmt/core.h>
#include <fnmatch.h>

#include <memory>

#include "autograd/convert.h"
#include "autograd/tape.h"
#include "cli/commands.h"
#include "cli/model_options.h"
#include "cli/profile_report.h"
#include "common/observer.h"
#include "formats/safetensors.h"

namespace lathe {
namespace {

// Keeps a copy of every tap whose name the pattern admits.
class Recorder final : public Observer {
 public:
  explicit Recorder(std::string pattern) : pattern_(std::move(pattern)) {}
  bool wants(const std::string& name) const override { return fnmatch(pattern_.c_str(), name.c_str(), 0) == 0; }
  void observe(const std::string& name, const Tensor& x) override {
    if (wants(name)) taps.emplace_back(name, x.clone());
  }
  NamedTensors taps;

 private:
  std::string pattern_;
};

Batch whole_sequence(const CausalLM& model, std::span<const int32_t> tokens, const RopeFrequencies& rope) {
  BatchSequence s;
  s.tokens = tokens;
  if (model.config.uses_rope()) s.rope = &rope;
  return make_batch({&s, 1}, nullptr);
}

// Next-token targets: the token that follows, none after the last.
Tensor next_tokens(std::span<const int32_t> tokens) {
  Tensor targets = Tensor::empty({static_cast<int64_t>(tokens.size())}, DType::i32);
  for (size_t i = 0; i < tokens.size(); ++i)
    targets.data<int32_t>()[i] = i + 1 < tokens.size() ? tokens[i + 1] : kIgnoredTarget;
  return targets;
}

NamedTensors gradients(LoadedModel& loaded, const Batch& batch, std::span<const int32_t> tokens) {
  Tape tape;
  Tensor total;
  {
    const Tape::Scope recording(tape);
    total = loss(*loaded.model, batch, next_tokens(tokens));
  }
  tape.backward(total);
  NamedTensors by_parameter;
  for (const NamedParameter& p : named_parameters(*loaded.model))
    by_parameter.emplace_back(p.name, p.parameter->gradient());
  NamedTensors result{{"loss", total.view({})}};
  for (auto& [name, gradient] : as_stored(loaded, by_parameter))
    result.emplace_back("grad." + name, std::move(gradient));
  return result;
}

}  // namespace

void add_trace(CLI::App& app) {
  struct Options {
    ModelOptions model;
    std::string tokens, output, filter = "*";
    bool gradients = false;
  };
  const auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("trace", "write every named activation, and gradients on request");
  o->model.declare(*command);
  command->add_option("--tokens", o->tokens, "ids separated by commas")->required();
  command->add_option("--output", o->output, "safetensors file")->required();
  command->add_option("--filter", o->filter, "only taps whose name matches, such as 'model.layers.0.*'")
      ->capture_default_str();
  command->add_flag("--gradients", o->gradients,
                    "also loss (mean next-token cross-entropy) and grad.<checkpoint tensor name>");
  command->footer("Example: lathe trace --model models/SmolLM2-135M --tokens 504,3575,282 --output trace.safetensors");
  command->callback([o] {
    const std::vector<int32_t> tokens = parse_tokens(o->tokens);
    LoadedModel loaded = o->model.load(o->gradients);
    const CausalLM& model = *loaded.model;
    check_tokens(tokens, model.config.vocab_size);
    check_context(static_cast<int64_t>(tokens.size()), o->model.context_limit(model.config));
    const RopeFrequencies rope = rope_frequencies(model.config, static_cast<int64_t>(tokens.size()));
    const Batch batch = whole_sequence(model, tokens, rope);
    ProfileReport profile(o->model);
    Recorder recorder(o->filter);
    {
      const Observer::Scope observing(recorder);
      const Tensor hidden = model.hidden(batch);
      tap("logits", apply_head(hidden, model.head()));
    }
    NamedTensors all = std::move(recorder.taps);
    if (o->gradients)
      for (auto& entry : gradients(loaded, batch, tokens)) all.push_back(std::move(entry));
    profile.finish();
    write_safetensors(o->output, all, {{"format", "pt"}});
    fmt::print(stderr, "lathe: wrote {} tensors to {}\n", all.size(), o->output);
  });
}

}  // namespace lathe
