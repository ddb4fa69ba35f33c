// Counts of values up to bounds, as Prometheus has them. May be added to and read from any threads.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

namespace lathe {

class Histogram {
 public:
  explicit Histogram(std::span<const double> bounds) : bounds_(bounds), counts_(bounds.size() + 1) {}

  void add(double value) {
    ++counts_[static_cast<size_t>(std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin())];
    sum_ += value;
  }
  std::span<const double> bounds() const { return bounds_; }
  uint64_t count(size_t i) const { return counts_[i]; }  // of values up to bound i and beyond the one before it
  double sum() const { return sum_; }

 private:
  std::span<const double> bounds_;             // static ones
  std::vector<std::atomic<uint64_t>> counts_;  // the last: beyond all bounds
  std::atomic<double> sum_ = 0;
};

inline constexpr double kSecondsBounds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                            0.5,   1,      2.5,   5,    10,    25,   60,  120};
inline constexpr double kTokensBounds[] = {1, 4, 16, 64, 256, 1024, 4096, 16384, 65536};
inline constexpr double kSequencesBounds[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024};

}  // namespace lathe
