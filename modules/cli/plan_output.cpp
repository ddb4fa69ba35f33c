// A plan as text, each figure with its equation, and as JSON.
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/plan_report.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;

double megabytes(size_t bytes) { return static_cast<double>(bytes) / 1e6; }
double element_bytes(DType t) { return static_cast<double>(bytes_of(t, 256)) / 256; }

std::string memory_line(const char* what, size_t bytes, const std::string& equation) {
  return fmt::format("  {:12} {:10.1f} MB   {}\n", what, megabytes(bytes), equation);
}

std::string memory_text(const PlanReport& r) {
  const ModelSizes& c = r.opened->model->sizes;
  const InferencePlan& plan = r.plan;
  const int64_t tokens = r.request.batch * r.request.context;
  std::string s = memory_line("weights", plan.weights,
                              r.on_device() ? "tables as stored, matrices as the kernels read them, norms in f32"
                                            : "matrices by 16 rows in their own blocks, norms in f32");
  if (plan.tables > 0) s += memory_line("tables", plan.tables, "pages of the file with the rows that are looked up");
  s += memory_line(
      "cache", plan.cache,
      fmt::format("2 L Hk D x bytes = 2 x {} x {} x {} x {:.4g} = {} a token; x {} tokens{}", c.num_hidden_layers,
                  c.num_key_value_heads, c.head_dim, element_bytes(r.request.cache_dtype), plan.cache_bytes_per_token,
                  tokens, c.layer_window.empty() ? "" : ", less where a layer has a window"));
  s += memory_line("activations", plan.activations,
                   fmt::format("what a step of {} tokens allocates, in f32: counted by running it without elements",
                               std::min(r.request.step_tokens, tokens)));
  if (r.on_device())
    s += memory_line("graphs", plan.graphs, "what the recorded decoding steps keep, one a bucket of rows and context");
  s += r.on_device()
           ? memory_line("context", r.runtime,
                         r.runtime > 0 ? "the driver's, kernels, other programs: measured on the device"
                                       : "the driver's and the kernels': not known, for there is no device here")
           : memory_line("runtime", r.runtime, "the program, its libraries, the vocabulary: measured in this process");
  return s + memory_line("total", r.total(),
                         fmt::format("the sum, or {:.1f} MB while loading", megabytes(plan.loading + r.runtime)));
}

std::string operations_text(const PlanReport& r) {
  const auto line = [](const char* what, int64_t operations, const std::string& equation) {
    return fmt::format("  {:12} {:10.4g} GFLOP  {}\n", what, static_cast<double>(operations) / 1e9, equation);
  };
  return line("a token", r.plan.linear_operations, "2 x the elements of the blocks' matrices") +
         line("its logits", r.plan.head_operations, "2 V C, where they are wanted") +
         line("attention", r.plan.attention_operations(r.opened->model->sizes, r.request.context),
              fmt::format("4 L Hq D a key that a token sees; here after {} tokens", r.request.context));
}

std::string speed_text(const PlanReport& r) {
  const auto line = [](const char* what, double speed, const std::string& equation) {
    return fmt::format("  {:12} {:10.4g} tok/s  {}\n", what, speed, equation);
  };
  return line("prefill", r.prefill_tokens_per_second(),
              fmt::format("1 / (a token / {:.0f} GFLOP/s in products + attention at half the context / {:.0f} in f32)",
                          r.linear_rate_of_model / 1e9, r.float_rate / 1e9)) +
         line("decode", r.decode_tokens_per_second(0),
              fmt::format("batch / (({:.1f} MB of weights + batch x cache) / {:.1f} GB/s), cache empty",
                          megabytes(r.plan.weight_bytes_read), r.read_bandwidth / 1e9)) +
         line("", r.decode_tokens_per_second(r.request.context), fmt::format("after {} tokens", r.request.context));
}

std::string limit_text(const PlanReport& r) {
  if (r.memory == 0) return {};
  if (r.total() <= r.memory) return fmt::format("\nfits in {:.1f} MB\n", megabytes(r.memory));
  return fmt::format("\ndoes not fit in {:.1f} MB; {}{}\n", megabytes(r.memory),
                     r.suggestions.empty() ? "no one option alone would make it fit" : "what would, each alone: ",
                     fmt::join(r.suggestions, ", "));
}

}  // namespace

Json PlanReport::json() const {
  const ModelSizes& c = opened->model->sizes;
  Json json = {{"source", opened->checkpoint.path},
               {"parameters", count_parameters(*opened->model)},
               {"weight_dtype", name(opened->weight_dtype)},
               {"cache_dtype", name(request.cache_dtype)},
               {"context", request.context},
               {"batch", request.batch},
               {"step_tokens", request.step_tokens}};
  json["memory_bytes"] = {{"weights", plan.weights}, {"tables", plan.tables},
                          {"cache", plan.cache},     {"activations", plan.activations},
                          {"runtime", runtime},      {"loading_peak", plan.loading + runtime},
                          {"total", total()}};
  json["per_token"] = {{"cache_bytes", plan.cache_bytes_per_token},
                       {"decode_weight_bytes", plan.weight_bytes_read},
                       {"linear_operations", plan.linear_operations},
                       {"head_operations", plan.head_operations},
                       {"attention_operations", plan.attention_operations(c, request.context)}};
  if (on_device()) json["memory_bytes"]["graphs"] = plan.graphs;
  if (!on_device())
    json["expected"] = {{"read_bandwidth_gb_s", read_bandwidth / 1e9},
                        {"linear_gflop_s", linear_rate_of_model / 1e9},
                        {"prefill_tokens_per_second", prefill_tokens_per_second()},
                        {"decode_tokens_per_second", decode_tokens_per_second(0)},
                        {"decode_tokens_per_second_at_context", decode_tokens_per_second(request.context)}};
  if (memory > 0) json["limit"] = {{"bytes", memory}, {"fits", total() <= memory}, {"would_fit", suggestions}};
  return json;
}

std::string PlanReport::text() const {
  return fmt::format("{}: {} parameters, weights {}, cache {}; {} sequence{} of {} tokens{}\n", opened->checkpoint.path,
                     count_parameters(*opened->model), name(opened->weight_dtype), name(request.cache_dtype),
                     request.batch, request.batch == 1 ? "" : "s", request.context,
                     on_device() ? ", on " + to_string(request.load.device) : "") +
         "\nmemory\n" + memory_text(*this) + "\noperations (a multiplication and an addition are two)\n" +
         operations_text(*this) +
         (on_device() ? "" : "\nspeed expected of this machine, as measured just now\n" + speed_text(*this)) +
         limit_text(*this);
}

}  // namespace lathe
