// What the kernel tests and the kernels' benchmark share: random data, outputs between guard bands, and the scale of
// rounding errors.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "tensor/threads.h"

namespace lathe::test {

// The thread team has `members` members while this lives.
class Threads {
 public:
  explicit Threads(int members) : before_(thread_team().size()) { set_threads(members); }
  ~Threads() { set_threads(before_); }

 private:
  int before_;
};

inline std::vector<float> random_floats(int64_t n, unsigned seed, float deviation = 1.0f, float mean = 0.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(mean, deviation);
  std::vector<float> v(static_cast<size_t>(n));
  for (float& x : v) x = normal(random);
  return v;
}

// 0, 1, 2, ...
inline std::vector<int32_t> counted(int64_t n) {
  std::vector<int32_t> numbers(static_cast<size_t>(n));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

// A kernel's output between two bands that it must not touch. It starts out as NaN, so that no element is missed.
class Guarded {
 public:
  explicit Guarded(int64_t n) : n_(n), all_(static_cast<size_t>(n + 2 * kBand), kMark) {
    for (int64_t i = 0; i < n; ++i) data()[i] = std::numeric_limits<float>::quiet_NaN();
  }
  float* data() { return all_.data() + kBand; }
  const float* data() const { return all_.data() + kBand; }
  float operator[](int64_t i) const { return data()[i]; }
  bool intact() const {
    for (int64_t i = 0; i < kBand; ++i)
      if (all_[static_cast<size_t>(i)] != kMark || data()[n_ + i] != kMark) return false;
    return true;
  }
  bool same_bits(const Guarded& other) const {
    return n_ == other.n_ && std::memcmp(data(), other.data(), static_cast<size_t>(n_) * sizeof(float)) == 0;
  }

 private:
  static constexpr int64_t kBand = 32;
  static constexpr float kMark = 12345.0f;
  int64_t n_;
  std::vector<float> all_;
};

// 64-byte aligned memory.
class Aligned {
 public:
  explicit Aligned(size_t bytes) : memory_(bytes + 64) {}
  uint8_t* data() { return memory_.data() + (64 - reinterpret_cast<uintptr_t>(memory_.data()) % 64) % 64; }

 private:
  std::vector<uint8_t> memory_;
};

inline constexpr double kEpsilon = 0x1p-24;  // half an ulp of f32 at 1

// The larger error. std::max drops NaN: what no kernel wrote would pass for no error.
inline double worse(double worst, double error) { return error > worst || std::isnan(error) ? error : worst; }

}  // namespace lathe::test
