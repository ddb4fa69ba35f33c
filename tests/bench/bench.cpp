// Ceilings and report of the kernels' benchmark.
#include "tests/bench/bench.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "kernels/peak_rates.h"
#include "tensor/memory_bandwidth.h"
#include "tensor/threads.h"

namespace lathe::bench {
namespace {

constexpr size_t kMemoryBytes = size_t{192} << 20;

uint8_t* memory() {
  static const Storage storage = [] {
    Storage fresh = allocate_storage(kMemoryBytes);
    std::memset(fresh.data, 0, kMemoryBytes);  // pages that nobody wrote to are all one page
    return fresh;
  }();
  return static_cast<uint8_t*>(storage.data);
}

// Bytes read and written by a copy of as much as the small kernels touch, in the second-level caches.
double measure_copy() {
  constexpr int64_t kFloats = kPromptTokens * 576;
  const Storage from = allocate_storage(kFloats * sizeof(float)), to = allocate_storage(kFloats * sizeof(float));
  std::memset(from.data, 1, kFloats * sizeof(float));
  const auto* source = static_cast<const float*>(from.data);
  auto* target = static_cast<float*>(to.data);
  const double seconds = best_seconds([&] {
    parallel_for(kFloats, 16 << 10, [&](int64_t begin, int64_t end) {
      std::memcpy(target + begin, source + begin, static_cast<size_t>(end - begin) * sizeof(float));
    });
  });
  return 2.0 * kFloats * sizeof(float) / seconds;
}

bool counts_bytes(Ceiling ceiling) { return ceiling == Ceiling::read || ceiling == Ceiling::copy; }

}  // namespace

double measure(Ceiling ceiling) {
  switch (ceiling) {
    case Ceiling::read: {
      const MemoryBlock block{memory(), kMemoryBytes};
      return measure_read_bandwidth({&block, 1}, 0.04);
    }
    case Ceiling::copy: return measure_copy();
    case Ceiling::floats: return measure_peak_rates().floats;
    case Ceiling::bf16: return measure_peak_rates().bf16;
    case Ceiling::integers: return measure_peak_rates().integers;
    case Ceiling::none: break;
  }
  return 0;
}

FromMemory::FromMemory(const void* bytes, size_t size, size_t alignment)
    : begin_(memory()),
      step_((size + alignment - 1) / alignment * alignment),
      copies_(static_cast<int64_t>(std::max<size_t>(1, kMemoryBytes / step_))) {
  parallel_for(copies_, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) std::memcpy(begin_ + i * static_cast<int64_t>(step_), bytes, size);
  });
}

void Report::speed(const std::string& section, const std::string& kernel, const std::string& shape, double amount,
                   double seconds, Ceiling ceiling, double ceiling_rate) {
  const double rate = amount / seconds;
  const char* unit = counts_bytes(ceiling) ? "GB/s" : "Gop/s";
  const std::string isa(name(cpu_isa()));
  fmt::print("{:12} {:9} {:18} {:22} {:10.2f} us", isa, section, kernel, shape, seconds * 1e6);
  Json row = {
      {"isa", isa}, {"section", section}, {"kernel", kernel}, {"shape", shape}, {"microseconds", seconds * 1e6}};
  if (ceiling != Ceiling::none) {
    fmt::print(" {:8.1f} {:5}", rate / 1e9, unit);
    row["rate"] = rate / 1e9;
    row["unit"] = unit;
  }
  if (ceiling_rate > 0) {
    fmt::print(" of {:7.1f} {:5.0f} %", ceiling_rate / 1e9, 100 * rate / ceiling_rate);
    row["ceiling"] = ceiling_rate / 1e9;
    row["share"] = rate / ceiling_rate;
  }
  fmt::print("\n");
  std::fflush(stdout);
  json["speeds"].push_back(std::move(row));
}

void Report::error(const std::string& dtype, const std::string& arithmetic, double gaussian, double outliers) {
  const std::string isa(name(cpu_isa()));
  fmt::print("{:12} errors    {:5} {:5} {:.2e} {:.2e}\n", isa, dtype, arithmetic, gaussian, outliers);
  json["errors"].push_back(
      {{"isa", isa}, {"dtype", dtype}, {"arithmetic", arithmetic}, {"gaussian", gaussian}, {"outliers", outliers}});
}

void Report::promise(const std::string& what, const std::string& shape, double kept, double freer) {
  fmt::print("{:12} promise   {:60} {:24} {:10.2f} us, freer {:10.2f} us: {:+.1f} %\n", name(cpu_isa()), what, shape,
             kept * 1e6, freer * 1e6, 100 * (kept / freer - 1));
  std::fflush(stdout);
  json["promise"].push_back(
      {{"what", what}, {"shape", shape}, {"kept_microseconds", kept * 1e6}, {"freer_microseconds", freer * 1e6}});
}

}  // namespace lathe::bench
