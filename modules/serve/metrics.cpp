#include "serve/metrics.h"

#include <fmt/core.h>

#include <algorithm>

namespace lathe {
namespace {

double seconds_since(RequestTimes::Time begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

std::string metric(const char* name, const char* type, const char* help, double value) {
  return fmt::format("# HELP lathe_{} {}\n# TYPE lathe_{} {}\nlathe_{} {}\n", name, help, name, type, name, value);
}

}  // namespace

void Histogram::add(double seconds) {
  ++counts_[static_cast<size_t>(std::lower_bound(kBounds.begin(), kBounds.end(), seconds) - kBounds.begin())];
  sum_ += seconds;
}

std::string Histogram::text(const std::string& name, const std::string& help) const {
  std::string text = fmt::format("# HELP lathe_{} {}\n# TYPE lathe_{} histogram\n", name, help, name);
  uint64_t count = 0;
  for (size_t i = 0; i < kBounds.size(); ++i)
    text += fmt::format("lathe_{}_bucket{{le=\"{}\"}} {}\n", name, kBounds[i], count += counts_[i]);
  count += counts_.back();
  return text + fmt::format("lathe_{}_bucket{{le=\"+Inf\"}} {}\nlathe_{}_sum {}\nlathe_{}_count {}\n", name, count,
                            name, sum_, name, count);
}

void Metrics::take(RequestTimes& times, const GenerationEvent& event) {
  if (!event.token) return;
  (times.last_token ? between_tokens_ : first_token_).add(seconds_since(times.last_token.value_or(times.begin)));
  times.last_token = std::chrono::steady_clock::now();
}

void Metrics::finished(const RequestTimes& times) { whole_.add(seconds_since(times.begin)); }

std::string Metrics::text(const EngineThread& engine, const std::string& model) const {
  const EngineThread::Counters& c = engine.counters();
  const Engine::Load load = engine.load();
  const auto number = [](const std::atomic<uint64_t>& n) { return static_cast<double>(n.load()); };
  std::string text = fmt::format(
      "# HELP lathe_model_info The model that is served.\n# TYPE lathe_model_info gauge\n"
      "lathe_model_info{{model=\"{}\"}} 1\n",
      model);
  text += metric("requests_received_total", "counter", "Requests for text.", static_cast<double>(arrived_));
  text += metric("requests_accepted_total", "counter", "Of these, those that the engine took.", number(c.requests));
  text += metric("requests_refused_total", "counter", "Refused because the queue was full.", number(c.refused));
  text +=
      metric("requests_cancelled_total", "counter", "Whose client left, or that took too long.", number(c.cancelled));
  text += metric("requests_failed_total", "counter", "Ended by a fault of the engine.", number(c.failed));
  text += metric("prompt_tokens_total", "counter", "Tokens of prompts.", number(c.prompt_tokens));
  text +=
      metric("prompt_tokens_cached_total", "counter", "Of these, found in the prefix cache.", number(c.cached_tokens));
  text += metric("generated_tokens_total", "counter", "Tokens of answers.", number(c.generated_tokens));
  text += metric("preemptions_total", "counter", "Sequences that lost their pages to others.", number(c.preempted));
  text += metric("steps_total", "counter", "Steps of the engine.", number(c.steps));
  text += metric("step_seconds_total", "counter", "Time spent in them.", number(c.step_microseconds) * 1e-6);
  text += metric("sequences_running", "gauge", "Sequences in the batch.", static_cast<double>(load.running));
  text += metric("sequences_waiting", "gauge", "Sequences that wait for room.", static_cast<double>(load.waiting));
  text += metric("cache_pages", "gauge", "Pages of the key-value cache.", static_cast<double>(load.pages));
  text += metric("cache_pages_used", "gauge", "Pages that sequences hold.", static_cast<double>(load.used_pages));
  text += metric("cache_pages_cached", "gauge", "Pages kept for later requests with the same beginning.",
                 static_cast<double>(load.cached_pages));
  return text + first_token_.text("time_to_first_token_seconds", "From a request's arrival to its first token.") +
         between_tokens_.text("time_between_tokens_seconds", "Between the tokens of an answer.") +
         whole_.text("request_seconds", "From a request's arrival to the end of its answer.");
}

}  // namespace lathe
