// The peak rates of the arithmetic, measured on every member of the team at once. The loops are in peak_loops.h.
#include "kernels/peak_rates.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "kernels/cpu/dispatch.h"
#include "tensor/threads.h"

namespace lathe::cpu {
namespace {

constexpr int kRounds = 5;
constexpr int64_t kSteps = 1 << 14,
                  kUnitsEach = 4;  // scheduled dynamically, so that a member that is descheduled costs little

using Loop = int64_t (*)(void*, int64_t);

double best_rate(Loop loop) {
  if (loop == nullptr) return 0;
  const int64_t units = thread_team().size() * kUnitsEach;
  std::vector<int64_t> operations(static_cast<size_t>(units));
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    parallel(units, [&](int64_t unit) {
      alignas(64) uint8_t memory[64 * PeakTable::kLines];
      std::memset(memory, 0x3c, sizeof memory);  // 0.0115 as f32
      operations[static_cast<size_t>(unit)] = loop(memory, kSteps);
    });
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    double all = 0;
    for (const int64_t count : operations) all += static_cast<double>(count);
    best = std::max(best, all / seconds.count());
  }
  return best;
}

}  // namespace
}  // namespace lathe::cpu

namespace lathe {
using namespace cpu;

PeakRates measure_peak_rates() {
  const PeakTable& loops = kernels().peaks;
  const double floats = best_rate(loops.floats);
  return {floats, loops.bf16 != nullptr ? best_rate(loops.bf16) : floats, best_rate(loops.integers)};
}

}  // namespace lathe
