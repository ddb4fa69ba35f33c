#include "cli/plan_report.h"

#include <fmt/core.h>

#include <algorithm>

#include "tensor/memory_bandwidth.h"

namespace lathe {
namespace {

// A product about as wide as the model's own, whose rows have whole blocks in every format.
double linear_rate(const ModelSizes& c, DType dtype, Arithmetic arithmetic, int64_t tokens) {
  const int64_t columns = std::clamp<int64_t>(c.hidden_size / 256 * 256, 256, 2048);
  return measure_linear_rate(dtype, arithmetic, std::min<int64_t>(c.intermediate_size, 2048), columns, tokens);
}

}  // namespace

void PlanReport::measure_speed() {
  read_bandwidth = measure_read_bandwidth();
  const DType dtype = opened->weight_dtype;
  const int64_t tokens = std::min<int64_t>(256, request.context);
  linear_rate_of_model = linear_rate(opened->model->sizes, dtype, arithmetic_of(dtype, request.load.dtype), tokens);
  float_rate = linear_rate(opened->model->sizes, DType::f32, Arithmetic::f32, tokens);
}

double PlanReport::decode_tokens_per_second(int64_t context) const {
  const auto n = static_cast<double>(request.batch);
  const auto bytes = static_cast<double>(plan.weight_bytes_read) +
                     n * static_cast<double>(plan.cache_bytes_per_token) * static_cast<double>(context);
  const double products = n * static_cast<double>(plan.linear_operations + plan.head_operations) / linear_rate_of_model;
  return n / std::max(bytes / read_bandwidth, products);
}

double PlanReport::prefill_tokens_per_second() const {
  const auto attention = plan.attention_operations(opened->model->sizes, request.context / 2);
  return 1.0 / (static_cast<double>(plan.linear_operations) / linear_rate_of_model +
                static_cast<double>(attention) / float_rate);
}

void PlanReport::suggest() {
  if (memory == 0 || total() <= memory) return;
  // What the program itself takes is measured, and differs by some 0.1 MB from one start to the next.
  constexpr size_t kRuntimeSpread = size_t{1} << 20;
  const size_t room = memory - std::min(memory, runtime + kRuntimeSpread);
  const auto fits = [&](const PlanRequest& r) { return plan_inference(*opened, r).peak() <= room; };
  // The largest value of a field, in steps, with which a request fits; 0: none does.
  const auto largest = [&](PlanRequest r, int64_t PlanRequest::*field, int64_t step) {
    int64_t low = 0, high = r.*field / step;
    while (low < high) {
      const int64_t middle = (low + high + 1) / 2;
      r.*field = middle * step;
      if (fits(r))
        low = middle;
      else
        high = middle - 1;
    }
    return low * step;
  };
  if (const int64_t context = largest(request, &PlanRequest::context, kPageTokens); context > 0)
    suggestions.push_back(fmt::format("--context {}", context));
  if (const int64_t batch = largest(request, &PlanRequest::batch, 1); batch > 0)
    suggestions.push_back(fmt::format("--batch {}", batch));
  PlanRequest smaller = request;
  for (const DType dtype : {DType::f16, DType::q8_0}) {
    smaller.cache_dtype = dtype;
    if (bytes_of(dtype, 256) >= bytes_of(request.cache_dtype, 256) || !fits(smaller)) continue;
    suggestions.push_back(fmt::format("--kv-cache-dtype {}", dtype == DType::f16 ? "float16" : name(dtype)));
    break;
  }
  if (const auto format = fitting_format(*opened, request, room))
    suggestions.push_back(fmt::format("--quantize {}", name(*format)));
}

}  // namespace lathe
