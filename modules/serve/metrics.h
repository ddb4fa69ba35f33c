// What the server counts and times, in Prometheus' text format (version 0.0.4).
#pragma once
#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>

#include "serve/engine_thread.h"
#include "serve/histogram.h"

namespace lathe {

// When an answer's parts came.
struct RequestTimes {
  using Time = std::chrono::steady_clock::time_point;
  Time begin = std::chrono::steady_clock::now();
  // Of each sequence: another's tokens say nothing of how even an answer comes.
  std::map<std::pair<RequestId, int64_t>, Time> last_token = {};
};

// Of one model. Written by the server's thread.
class Metrics {
 public:
  void arrived() { ++arrived_; }
  void take(RequestTimes& times, const GenerationEvent& event);
  void finished(const RequestTimes& times);

 private:
  friend struct MetricFamilies;
  uint64_t arrived_ = 0;
  std::array<uint64_t, 4> endings_ = {};  // of sequences, by FinishReason
  Histogram first_token_{kSecondsBounds}, between_tokens_{kSecondsBounds}, whole_{kSecondsBounds};
  Histogram prompt_tokens_{kTokensBounds}, generated_tokens_{kTokensBounds};
};

struct MeasuredModel {
  std::string id;
  const EngineThread* engine;
  const Metrics* metrics;
};

// vllm: those that vLLM (its documentation, "Metrics") has are called as there, so that dashboards made for
// it show this server.
enum class MetricNames : uint8_t { lathe, vllm };

// The lines of one series, labels as they stand between braces.
std::string histogram_text(const std::string& name, const std::string& labels, const Histogram& of);
// A label model_name tells the models apart.
std::string metrics_text(std::span<const MeasuredModel> models, MetricNames names);

}  // namespace lathe
