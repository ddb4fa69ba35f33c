#include "cli/describe.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "generate/inference_plan.h"

namespace lathe {

using Json = nlohmann::ordered_json;

namespace {

// What a parameter is counted under.
const char* part_of(const NamedParameter& p) {
  switch (p.parameter->kind) {
    case Parameter::Kind::embedding: return "embed_tokens";
    case Parameter::Kind::position: return "embed_positions";
    case Parameter::Kind::head: return "lm_head";
    default: break;
  }
  if (p.part == ModelPart::other) return "norms";
  return p.part == ModelPart::attention ? "self_attn" : "mlp";
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
