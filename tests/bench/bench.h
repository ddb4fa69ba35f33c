// What the benchmark of the kernels is made of: the clock, the ceilings, matrices that come from memory, and the
// report.
//
// Every figure is the best of several rounds, as is the ceiling beside it, measured before and after: on a machine with
// neighbours the best is what comes back. Figures compare within a run only.
#pragma once
#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "tensor/cpu_features.h"
#include "tensor/storage.h"

namespace lathe::bench {

using Json = nlohmann::ordered_json;

inline constexpr int64_t kPromptTokens = 512;  // of prefill

// f's seconds a call: the best of at least three rounds of `calls` calls each, after an untimed one.
template <class F>
double best_seconds(F&& f, int64_t calls = 0) {
  using Clock = std::chrono::steady_clock;
  constexpr double kRound = 2e-3, kAll = 30e-3;
  const auto time = [&](int64_t count) {
    const auto start = Clock::now();
    for (int64_t i = 0; i < count; ++i) f();
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  f();
  if (calls == 0)
    for (calls = 1; time(calls) < kRound;) calls *= 2;
  double best = 1e300, all = 0;
  for (int round = 0; round < 3 || (all < kAll && round < 1000); ++round) {
    const double seconds = time(calls);
    all += seconds;
    if (seconds / static_cast<double>(calls) < best) best = seconds / static_cast<double>(calls);
  }
  return best;
}

// What bounds a kernel: bytes a second, or operations a second.
enum class Ceiling { none, read, copy, floats, bf16, integers };
double measure(Ceiling ceiling);

// Some bytes repeated until they exceed the caches of any machine: each call of next() gives another copy, so that what
// is read comes from memory. One such object at a time: they share their memory, which is kept.
class FromMemory {
 public:
  // The repetitions begin `alignment` bytes apart or a multiple.
  FromMemory(const void* bytes, size_t size, size_t alignment = 64);
  uint8_t* next() { return begin_ + (at_++ % copies_) * static_cast<int64_t>(step_); }
  int64_t copies() const { return copies_; }

 private:
  uint8_t* begin_;
  size_t step_;
  int64_t copies_, at_ = 0;
};

// Gathers the figures and prints each as it comes.
class Report {
 public:
  // `amount` is what a call does: bytes or operations, in the ceiling's sense; seconds of a call.
  void speed(const std::string& section, const std::string& kernel, const std::string& shape, double amount,
             double seconds, Ceiling ceiling, double ceiling_rate);
  // Times f beside its ceiling. `calls`: of a round, 0 for as many as the clock needs.
  template <class F>
  void time(const std::string& section, const std::string& kernel, const std::string& shape, double amount,
            Ceiling ceiling, F&& f, int64_t calls = 0) {
    const double before = measure(ceiling), seconds = best_seconds(f, calls), after = measure(ceiling);
    speed(section, kernel, shape, amount, seconds, ceiling, before > after ? before : after);
  }
  void error(const std::string& dtype, const std::string& arithmetic, double gaussian, double outliers);
  // Seconds of the same work by the kernel that keeps the promise on bits, and by one that need not.
  void promise(const std::string& what, const std::string& shape, double kept, double freer);

  Json json;
};

// The sections. `thorough`: every arithmetic and shape, else the ones that inference takes.
void linears(Report& report, bool thorough);
void attentions(Report& report, bool thorough);
void small_kernels(Report& report);
void training_kernels(Report& report);
void quantisers(Report& report);  // of activations before a product, and of weights while loading
void errors(Report& report);
void promise(Report& report);

}  // namespace lathe::bench
