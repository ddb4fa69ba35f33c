#include "cli/describe.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "generate/inference_plan.h"

namespace lathe {

using Json = nlohmann::ordered_json;

namespace {

// Parameters summed by what they belong to: "self_attn", "mlp", norms, tables.
std::string part_of(const NamedParameter& p) {
  if (p.parameter->kind == Parameter::Kind::embedding) return "embed_tokens";
  if (p.parameter->kind == Parameter::Kind::position) return "embed_positions";
  for (const char* module : {"self_attn", "mlp", "lm_head"})
    if (p.name.find(module) != std::string::npos) return module;
  return "norms";
}

}  // namespace

Json parameters_json(CausalLM& model) {
  std::map<std::string, int64_t> parts;
  for (const NamedParameter& p : named_parameters(model)) parts[part_of(p)] += p.parameter->shape.elements();
  Json json = {{"total", count_parameters(model)}};
  if (model.sizes.num_experts > 0) {
    double met = 0;
    for (const NamedParameter& p : named_parameters(model))
      met += p.parameter->share * static_cast<double>(p.parameter->shape.elements());
    json["for_a_token"] = static_cast<int64_t>(met);
  }
  for (const auto& [part, count] : parts) json[part] = count;
  return json;
}

// What running takes besides the weights. Activations: the widest moment of a block over 512 new tokens (the residual
// stream three times, the packed projections and what they become; with experts, k rows a token) and a row of logits,
// in f32.
Json memory_json(const ModelSizes& c) {
  const auto cache = [&](DType dtype) {
    size_t bytes = 0;
    for (const LayerGroup& group : layer_groups(c)) bytes += KVCache::page_bytes(c, group, dtype);
    return bytes / kPageTokens;
  };
  const int64_t projections = (c.num_attention_heads + 2 * c.num_key_value_heads) * c.head_dim;
  const int64_t experts = c.num_experts_per_tok * (2 * c.hidden_size + 3 * c.moe_intermediate_size);
  const int64_t feed_forward = c.num_experts > 0 ? experts : 3 * c.intermediate_size;
  const int64_t width = 3 * c.hidden_size + std::max(2 * projections, feed_forward);
  return {{"cache_bytes_per_token_f32", cache(DType::f32)},
          {"cache_bytes_per_token_f16", cache(DType::f16)},
          {"activation_bytes_512_tokens", 4 * (512 * width + c.vocab_size)}};
}

Json requirements_json(const LoadedModel& opened) {
  PlanRequest request;
  request.context = std::min(request.step_tokens, opened.model->sizes.context_limit());
  request.cache_dtype = opened.cache_dtype;
  Json json = {{"tokens", request.context}, {"memory_bytes_as_stored", plan_inference(opened, request).peak()}};
  for (const DType format : {DType::q8_0, DType::q6_k, DType::q4_0}) {
    if (bytes_of(format, 256) >= bytes_of(opened.weight_dtype, 256)) continue;
    request.load.quantize = format;
    request.cache_dtype = cache_dtype_of(format, ComputeDtype::automatic);
    json[fmt::format("memory_bytes_{}", name(format))] = plan_inference(opened, request).peak();
  }
  return json;
}

}  // namespace lathe
