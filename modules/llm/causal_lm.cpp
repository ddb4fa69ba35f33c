#include "llm/causal_lm.h"

#include "config/model_config.h"
#include "llm/adapter.h"
#include "tensor/random.h"
#include "tensor/threads.h"

namespace lathe {

CausalLM::CausalLM(const ModelConfig& config)
    : owned_config(std::make_unique<const ModelConfig>(config)), config(*owned_config), sizes(*owned_config) {}
CausalLM::~CausalLM() = default;

Tensor logits(const CausalLM& model, const Batch& batch) { return logits_of(model, batch, model.hidden(batch)); }

Tensor logits_of(const CausalLM& model, const Batch& batch, const Tensor& hidden) {
  return apply_head(select_rows(hidden, batch.logit_rows), model.head());
}

Tensor loss(const CausalLM& model, const Batch& batch, const Tensor& targets, double total) {
  return linear_cross_entropy(model.hidden(batch), model.head(), targets.to(batch.tokens.device()), total);
}

std::vector<NamedParameter> named_parameters(CausalLM& model) {
  std::vector<NamedParameter> list;
  Visitor visitor([&](const NamedParameter& p) { list.push_back(p); });
  model.visit(visitor);
  return list;
}

std::vector<NamedParameter> all_parameters(CausalLM& model) {
  std::vector<NamedParameter> list = named_parameters(model);
  const std::vector<NamedParameter> more = adapter_parameters(model);
  list.insert(list.end(), more.begin(), more.end());
  return list;
}

int64_t count_parameters(CausalLM& model) {
  int64_t count = 0;
  for (const NamedParameter& p : all_parameters(model)) count += p.parameter->whole_shape().elements();
  return count;
}

size_t weight_bytes(CausalLM& model) {
  size_t bytes = 0;
  for (const NamedParameter& p : all_parameters(model)) {
    if (p.parameter->packed) bytes += p.parameter->packed->storage.bytes();
    if (p.parameter->value.defined()) bytes += p.parameter->value.bytes();
  }
  return bytes;
}

void initialise(CausalLM& model, uint64_t seed, DType dtype) {
  for (const NamedParameter& named : named_parameters(model)) {
    Parameter& p = *named.parameter;
    const uint64_t stream = random_stream(named.name);
    const double deviation = model.config.initializer_range;
    const double constant = p.kind == Parameter::Kind::norm ? 1.0 - model.config.norm_offset : 0.0;
    p.value = Tensor::empty(p.shape, dtype);
    const int64_t before = p.first_row() * (p.shape.elements() / p.shape[0]);  // of other ranks
    const auto fill = [&](auto* to) {
      parallel_for(p.shape.elements(), kGrainElements / 16, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const double x =
              p.is_vector() ? constant : deviation * random_normal(seed, stream, static_cast<uint64_t>(before + i));
          to[i] = static_cast<std::remove_pointer_t<decltype(to)>>(x);
        }
      });
    };
    if (dtype == DType::f64)
      fill(p.value.host<double>());
    else
      fill(p.value.host<float>());
  }
}

void move_weights(CausalLM& model, Device device) {
  for (const NamedParameter& named : all_parameters(model)) {
    Parameter& p = *named.parameter;
    if (p.packed) continue;
    p.value = p.value.to(device);
    p.grad = {};
  }
}

void prepare_for_inference(CausalLM& model, Arithmetic arithmetic) {
  for (const NamedParameter& named : named_parameters(model)) named.parameter->prepare_for_inference(arithmetic);
}

}  // namespace lathe
