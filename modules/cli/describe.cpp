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

Json memory_json(const ModelSizes& c) {
  const auto cache = [&](DType dtype) {
    size_t bytes = 0;
    for (const LayerGroup& group : layer_groups(c)) bytes += KVCache::page_bytes(c, group, dtype);
    return bytes / kPageTokens;
  };
  return {{"cache_bytes_per_token_f32", cache(DType::f32)}, {"cache_bytes_per_token_f16", cache(DType::f16)}};
}

Json requirements_json(const LoadedModel& opened) {
  PlanRequest request;
  request.context = std::min(request.step_tokens, opened.model->sizes.context_limit());
  request.cache_dtype = opened.cache_dtype;
  const InferencePlan plan = plan_inference(opened, request);
  Json json = {
      {"tokens", request.context}, {"activation_bytes", plan.activations}, {"memory_bytes_as_stored", plan.peak()}};
  for (const DType format : {DType::q8_0, DType::q6_k, DType::q4_0}) {
    if (bytes_of(format, 256) >= bytes_of(opened.weight_dtype, 256)) continue;
    request.load.quantize = format;
    request.cache_dtype = cache_dtype_of(format, ComputeDtype::automatic);
    json[fmt::format("memory_bytes_{}", name(format))] = plan_inference(opened, request).peak();
  }
  return json;
}

}  // namespace lathe
