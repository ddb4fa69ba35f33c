// What the server counts and times, in Prometheus' text format (version 0.0.4).
#pragma once
#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "serve/engine_thread.h"

namespace lathe {

// When an answer's parts came.
struct RequestTimes {
  using Time = std::chrono::steady_clock::time_point;
  Time begin = std::chrono::steady_clock::now();
  std::optional<Time> last_token;
};

class Histogram {
 public:
  void add(double seconds);
  std::string text(const std::string& name, const std::string& help) const;

 private:
  static constexpr std::array<double, 16> kBounds = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                                     0.5,   1,      2.5,   5,    10,    25,   60,  120};
  std::array<uint64_t, kBounds.size() + 1> counts_{};  // the last: beyond all bounds
  double sum_ = 0;
};

// Of the server's thread.
class Metrics {
 public:
  void arrived() { ++arrived_; }
  void take(RequestTimes& times, const GenerationEvent& event);
  void finished(const RequestTimes& times);
  std::string text(const EngineThread& engine, const std::string& model) const;

 private:
  uint64_t arrived_ = 0;
  Histogram first_token_, between_tokens_, whole_;
};

}  // namespace lathe
