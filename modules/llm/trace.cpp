#include "llm/trace.h"

#include <fnmatch.h>

#include <utility>

#include "autograd/tape.h"
#include "common/observer.h"

namespace lathe {
namespace {

// Keeps a copy of every tap whose name the pattern admits.
class Recorder final : public Observer {
 public:
  explicit Recorder(std::string pattern) : pattern_(std::move(pattern)) {}
  bool wants(const std::string& name) const override { return fnmatch(pattern_.c_str(), name.c_str(), 0) == 0; }
  void observe(const std::string& name, const Tensor& x) override {
    if (wants(name)) taps.emplace_back(name, x.device().kind == Device::Kind::cuda ? x.to(Device{}) : x.clone());
  }
  NamedTensors taps;

 private:
  std::string pattern_;
};

Batch whole_sequence(const CausalLM& model, std::span<const int32_t> tokens) {
  const auto rope = RopeTables(model.config, std::ssize(tokens), DType::f32, model.device()).of(std::ssize(tokens));
  BatchSequence s;
  s.tokens = tokens;
  s.rope = rope.get();
  return make_batch({&s, 1}, nullptr, model.device());
}

// Next-token targets: the token that follows, none after the last.
Tensor next_tokens(std::span<const int32_t> tokens) {
  Tensor targets = Tensor::empty({static_cast<int64_t>(tokens.size())}, DType::i32);  // (N)
  for (size_t i = 0; i < tokens.size(); ++i)
    targets.host<int32_t>()[i] = i + 1 < tokens.size() ? tokens[i + 1] : kIgnoredTarget;
  return targets;
}

}  // namespace

Tensor hidden_states(const CausalLM& model, std::span<const int32_t> tokens) {
  return model.hidden(whole_sequence(model, tokens));
}

NamedTensors trace(const CausalLM& model, std::span<const int32_t> tokens, const std::string& filter) {
  Recorder recorder(filter);
  const Observer::Scope observing(recorder);
  tap("logits", apply_head(hidden_states(model, tokens), model.head()));
  return std::move(recorder.taps);
}

namespace {

// Parameters without gradients while it lives, then with those that they had.
class OwnGradients {
 public:
  explicit OwnGradients(const std::vector<NamedParameter>& parameters) : parameters_(parameters) {
    for (const NamedParameter& p : parameters) held_.push_back(std::exchange(p.parameter->grad, {}));
  }
  ~OwnGradients() {
    for (size_t i = 0; i < held_.size(); ++i) parameters_[i].parameter->grad = held_[i];
  }
  OwnGradients(const OwnGradients&) = delete;
  OwnGradients& operator=(const OwnGradients&) = delete;

 private:
  const std::vector<NamedParameter>& parameters_;
  std::vector<Tensor> held_;
};

}  // namespace

NamedTensors loss_and_gradients(const LoadedModel& loaded, std::span<const int32_t> tokens) {
  const std::vector<NamedParameter> parameters = named_parameters(*loaded.model);
  const OwnGradients own(parameters);
  Tape tape;
  Tensor total;  // (1)
  {
    const Tape::Scope recording(tape);
    total = loss(*loaded.model, whole_sequence(*loaded.model, tokens), next_tokens(tokens));
  }
  tape.backward(total);
  NamedTensors by_parameter;
  for (const NamedParameter& p : parameters) by_parameter.emplace_back(p.name, p.parameter->gradient().to(Device{}));
  NamedTensors result{{"loss", total.to(Device{}).view({})}};
  for (auto& [name, gradient] : as_stored(loaded, by_parameter))
    result.emplace_back("grad." + name, std::move(gradient));
  return result;
}

}  // namespace lathe
