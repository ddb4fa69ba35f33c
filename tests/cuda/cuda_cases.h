// What the tests of CUDA kernels share. The kernels run on the emulator, whose memory is the host's, or in a build with
// LATHE_CUDA on a device that reads the host's memory.
#pragma once
#include <algorithm>
#include <cmath>
#include <memory>
#include <new>
#include <vector>

#include "kernels/device.h"
#include "tests/catch.h"
#include "tests/cuda/schedules.h"
#include "tests/kernels/kernel_data.h"

namespace lathe::test {

inline const Cuda kOnDevice{nullptr};

// Threads run in this order while it lives. Kernels whose threads meet are tried in each.
class InOrder {
 public:
  explicit InOrder(simt::Order order) : before_(simt::config.order) { simt::config.order = order; }
  ~InOrder() { simt::config.order = before_; }

 private:
  simt::Order before_;
};
inline simt::Order any_order() { return GENERATE(simt::Order::forward, simt::Order::reverse, simt::Order::random); }

inline std::vector<double> widened(const std::vector<float>& v) { return {v.begin(), v.end()}; }

// n floats as a kernel's input `shift` elements off a 64-byte border. They end with their allocation, for
// AddressSanitizer to see.
class Input {
 public:
  explicit Input(const std::vector<float>& v, int64_t shift = 0)
      : memory_(
            static_cast<float*>(::operator new (4 * (v.size() + static_cast<size_t>(shift)), std::align_val_t{64}))),
        data_(memory_.get() + shift) {
    std::fill(memory_.get(), data_, NAN);
    std::copy(v.begin(), v.end(), data_);
  }
  float* data() { return data_; }

 private:
  struct Delete {
    void operator()(float* p) const { ::operator delete (p, std::align_val_t{64}); }
  };
  std::unique_ptr<float, Delete> memory_;
  float* data_;
};

// An output of `rows` rows, `stride` apart and `shift` elements off a 64-byte border, between bands: the elements of a
// row that are the kernel's begin as NaN, or as `before`, and all others must stay.
class Output {
 public:
  Output(int64_t rows, int64_t n, int64_t stride, int64_t shift = 0, float before = NAN)
      : rows_(rows),
        n_(n),
        stride_(stride),
        all_(rows * stride + 2 * kBand + shift),
        memory_(static_cast<size_t>(4 * all_)) {
    float* p = reinterpret_cast<float*>(memory_.data());
    std::fill_n(p, all_, kMark);
    data_ = p + kBand + shift;
    for (int64_t row = 0; row < rows; ++row) std::fill_n(data_ + row * stride, n, before);
  }
  explicit Output(int64_t n, int64_t shift = 0, float before = NAN) : Output(1, n, n, shift, before) {}

  float* data() { return data_; }
  Rows<float> rows() { return {data_, stride_}; }
  float at(int64_t row, int64_t i) const { return data_[row * stride_ + i]; }
  float operator[](int64_t i) const { return at(i / n_, i % n_); }
  bool intact() const {
    const float* p = reinterpret_cast<const float*>(const_cast<Aligned&>(memory_).data());
    for (int64_t at = 0; at < all_; ++at) {
      const int64_t i = at - (data_ - p);
      const bool own = i >= 0 && i < rows_ * stride_ && i % stride_ < n_;
      if (!own && p[at] != kMark) return false;
    }
    return true;
  }
  // The largest difference from `exact` (rows n); infinity where a value is no number and should be, or is not intact.
  double error(const std::vector<double>& exact) const {
    if (!intact()) return INFINITY;
    double most = 0;
    for (size_t i = 0; i < exact.size(); ++i) {
      const double difference = std::abs(static_cast<double>((*this)[static_cast<int64_t>(i)]) - exact[i]);
      if (!(difference <= most)) most = std::isnan(difference) ? INFINITY : difference;
    }
    return most;
  }

 private:
  static constexpr int64_t kBand = 32;
  static constexpr float kMark = 12345.0f;
  int64_t rows_, n_, stride_, all_;
  Aligned memory_;
  float* data_;
};

inline double largest(const std::vector<double>& v) {
  double most = 0;
  for (const double x : v) most = std::max(most, std::abs(x));
  return most;
}

}  // namespace lathe::test
