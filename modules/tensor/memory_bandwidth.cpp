#include "tensor/memory_bandwidth.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>

#include "tensor/threads.h"

namespace lathe {

double measure_read_bandwidth() {
  constexpr int64_t kWords = int64_t{1} << 25;  // of 8 bytes
  constexpr int kPasses = 5;
  const auto block = std::make_unique_for_overwrite<uint64_t[]>(kWords);
  // Written by the members that will read it, so that the pages lie near them.
  parallel_for(kWords, 4096, [&](int64_t begin, int64_t end) { std::fill(&block[begin], &block[end], uint64_t{1}); });
  std::atomic<uint64_t> total{0};  // keeps the reads from being optimised away
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    parallel_for(kWords, 4096, [&](int64_t begin, int64_t end) {
      uint64_t lanes[16] = {};
      for (int64_t i = begin; i + 16 <= end; i += 16)
        for (int64_t lane = 0; lane < 16; ++lane) lanes[lane] |= block[i + lane];
      uint64_t all = 0;
      for (const uint64_t lane : lanes) all |= lane;
      total.fetch_add(all, std::memory_order_relaxed);
    });
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(kWords) * 8.0 / seconds.count());
  }
  return total.load() != 0 ? best : 0.0;
}

}  // namespace lathe
