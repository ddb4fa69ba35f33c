// The plan of inference for people and as JSON, and what would fit where it does not.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "cli/engine_options.h"
#include "generate/inference_plan.h"

namespace lathe {

struct PlanReport {
  const LoadedModel* opened = nullptr;
  PlanRequest request;
  InferencePlan plan;
  size_t runtime = 0;  // bytes that the program takes without a model; of a device, what is taken of it already
  size_t memory = 0;   // bytes that there are; 0: not asked
  // Bytes and operations per second, measured here; 0 for a device.
  double read_bandwidth = 0, linear_rate_of_model = 0, float_rate = 0;
  std::vector<std::string> suggestions;  // options that would fit, each alone

  bool on_device() const { return request.load.device.kind == Device::Kind::cuda; }
  size_t total() const { return runtime + plan.peak(); }
  void measure_speed();
  // Fills `suggestions` where the plan exceeds `memory`.
  void suggest();

  double decode_tokens_per_second(int64_t context) const;  // of all sequences together
  double prefill_tokens_per_second() const;                // of a prompt of the whole context
  nlohmann::ordered_json json() const;
  std::string text() const;
};

}  // namespace lathe
