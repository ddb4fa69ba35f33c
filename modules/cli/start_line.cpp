#include "cli/start_line.h"

#include <fmt/core.h>

#include <cstdio>

#include "autograd/device_image.h"
#include "llm/weight_reads.h"
#include "tensor/cpu_features.h"
#include "tensor/threads.h"

namespace lathe {

void print_start_line(const LoadedModel& loaded, const std::string& dtype) {
  constexpr double kMeasuringSeconds = 0.008;
  CausalLM& model = *loaded.model;
  if (model.device().kind == Device::Kind::cuda) {
    fmt::print(stderr, "lathe: {} on {}, --dtype {}, weights {} {:.1f} MB\n", model.sizes.architecture,
               describe_device(model.device()), dtype, name(loaded.weight_dtype),
               static_cast<double>(weight_bytes(model)) / 1e6);
    return;
  }
  const int threads = thread_team().size();
  const std::string ranks = model.ranks->alone() ? "" : fmt::format(" of each of {} processes", model.ranks->size());
  fmt::print(stderr, "lathe: {} on {} thread{}{}, {}, --dtype {}, weights {} {:.1f} MB", model.sizes.architecture,
             threads, threads == 1 ? "" : "s", ranks, name(cpu_isa()), dtype, name(loaded.weight_dtype),
             static_cast<double>(weight_bytes(model)) / 1e6);
  if (const double bandwidth = measure_weight_bandwidth(model, kMeasuringSeconds); bandwidth > 0)
    fmt::print(stderr, ", read at {:.1f} GB/s, which allows {:.0f} tokens/s", bandwidth / 1e9,
               bandwidth / static_cast<double>(decode_weight_bytes(model)));
  fmt::print(stderr, "\n");
}

}  // namespace lathe
