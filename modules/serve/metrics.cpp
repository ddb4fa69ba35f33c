#include "serve/metrics.h"

#include <fmt/core.h>

namespace lathe {
namespace {

double seconds_since(RequestTimes::Time begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

std::string escaped_label(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\\' || c == '"') escaped += '\\';
    if (c == '\n')
      escaped += "\\n";
    else
      escaped += c;
  }
  return escaped;
}

}  // namespace

std::string histogram_text(const std::string& name, const std::string& labels, const Histogram& of) {
  std::string text;
  uint64_t count = 0;
  for (size_t i = 0; i < of.bounds().size(); ++i)
    text += fmt::format("{}_bucket{{{},le=\"{}\"}} {}\n", name, labels, of.bounds()[i], count += of.count(i));
  count += of.count(of.bounds().size());
  return text + fmt::format("{0}_bucket{{{1},le=\"+Inf\"}} {2}\n{0}_sum{{{1}}} {3}\n{0}_count{{{1}}} {2}\n", name,
                            labels, count, of.sum());
}

void Metrics::take(RequestTimes& times, const GenerationEvent& event) {
  if (event.token) {
    if (times.last_token.empty()) first_token_.add(seconds_since(times.begin));
    const auto now = std::chrono::steady_clock::now();
    const auto [last, is_first] = times.last_token.try_emplace({event.request, event.sequence}, now);
    if (!is_first) between_tokens_.add(seconds_since(std::exchange(last->second, now)));
  }
  if (!event.completion) return;
  ++endings_.at(static_cast<size_t>(event.completion->finish_reason));
  generated_tokens_.add(static_cast<double>(event.completion->tokens.size()));
  if (event.completion->sequence == 0) prompt_tokens_.add(static_cast<double>(event.completion->prompt_tokens));
}

void Metrics::finished(const RequestTimes& times) { whole_.add(seconds_since(times.begin)); }

// Each has a value or a histogram of every model; endings have one a reason.
struct MetricFamilies {
  struct Sample {
    const Metrics& metrics;
    const EngineThread& engine;
    Engine::Load load;
  };
  struct Family {
    const char *lathe, *vllm, *type, *help;  // vllm: null where it has none
    double (*value)(const Sample&);
    const Histogram& (*histogram)(const Sample&);
  };

  static double share(const Sample& s) {
    return s.load.pages == 0 ? 0 : static_cast<double>(s.load.used_pages) / static_cast<double>(s.load.pages);
  }

#define LATHE_VALUE(expression) [](const Sample& s) { return static_cast<double>(expression); }, nullptr
#define LATHE_HISTOGRAM(expression) nullptr, [](const Sample& s) -> const Histogram& { return expression; }
  static constexpr Family kAll[] = {
      {"model_info", nullptr, "gauge", "The models that are served.",
       LATHE_VALUE(s.engine.state() == EngineThread::State::ready)},
      {"requests_received_total", nullptr, "counter", "Requests for text.", LATHE_VALUE(s.metrics.arrived_)},
      {"requests_accepted_total", nullptr, "counter", "Of these, those that the engine took.",
       LATHE_VALUE(s.engine.counters().requests)},
      {"requests_refused_total", nullptr, "counter", "Refused because the queue was full.",
       LATHE_VALUE(s.engine.counters().refused)},
      {"requests_cancelled_total", nullptr, "counter", "Whose client left, or that took too long.",
       LATHE_VALUE(s.engine.counters().cancelled)},
      {"requests_failed_total", nullptr, "counter", "Ended by a fault of the engine.",
       LATHE_VALUE(s.engine.counters().failed)},
      {"prompt_tokens_total", "prompt_tokens_total", "counter", "Tokens of prompts.",
       LATHE_VALUE(s.engine.counters().prompt_tokens)},
      {"prompt_tokens_cached_total", "prefix_cache_hits_total", "counter", "Of these, found in the prefix cache.",
       LATHE_VALUE(s.engine.counters().cached_tokens)},
      {"generated_tokens_total", "generation_tokens_total", "counter", "Tokens of answers.",
       LATHE_VALUE(s.engine.counters().generated_tokens)},
      {"preemptions_total", "num_preemptions_total", "counter", "Sequences that lost their pages to others.",
       LATHE_VALUE(s.engine.counters().preempted)},
      {"steps_total", nullptr, "counter", "Steps of the engine.", LATHE_VALUE(s.engine.counters().steps)},
      {"step_seconds_total", nullptr, "counter", "Time spent in them.",
       LATHE_VALUE(1e-6 * static_cast<double>(s.engine.counters().step_microseconds))},
      {"sequences_running", "num_requests_running", "gauge", "Sequences in the batch.", LATHE_VALUE(s.load.running)},
      {"sequences_waiting", "num_requests_waiting", "gauge", "Sequences that wait for room.",
       LATHE_VALUE(s.load.waiting)},
      {"cache_pages", nullptr, "gauge", "Pages of the key-value cache.", LATHE_VALUE(s.load.pages)},
      {"cache_pages_used", nullptr, "gauge", "Pages that sequences hold.", LATHE_VALUE(s.load.used_pages)},
      {"cache_pages_cached", nullptr, "gauge", "Pages kept for later requests with the same beginning.",
       LATHE_VALUE(s.load.cached_pages)},
      {"cache_used_share", "kv_cache_usage_perc", "gauge", "Pages that sequences hold, of all: 1 is full.", share,
       nullptr},
      {"batch_sequences", nullptr, "histogram", "Sequences of a step.", LATHE_HISTOGRAM(s.engine.batch_sizes())},
      {"step_tokens", "iteration_tokens_total", "histogram", "Tokens of a step.",
       LATHE_HISTOGRAM(s.engine.batch_tokens())},
      {"request_prompt_tokens", "request_prompt_tokens", "histogram", "Tokens of a prompt.",
       LATHE_HISTOGRAM(s.metrics.prompt_tokens_)},
      {"request_generated_tokens", "request_generation_tokens", "histogram", "Tokens of an answer.",
       LATHE_HISTOGRAM(s.metrics.generated_tokens_)},
      {"time_to_first_token_seconds", "time_to_first_token_seconds", "histogram",
       "From a request's arrival to its first token.", LATHE_HISTOGRAM(s.metrics.first_token_)},
      {"time_between_tokens_seconds", "inter_token_latency_seconds", "histogram", "Between the tokens of an answer.",
       LATHE_HISTOGRAM(s.metrics.between_tokens_)},
      {"request_seconds", "e2e_request_latency_seconds", "histogram",
       "From a request's arrival to the end of its answer.", LATHE_HISTOGRAM(s.metrics.whole_)},
  };
#undef LATHE_VALUE
#undef LATHE_HISTOGRAM

  static std::string head(const std::string& name, const char* type, const char* help) {
    return fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
  }
  static const std::array<uint64_t, 4>& endings(const Metrics& m) { return m.endings_; }
};

std::string metrics_text(std::span<const MeasuredModel> models, MetricNames names) {
  using Families = MetricFamilies;
  const auto named = [&](const char* lathe, const char* vllm) {
    return names == MetricNames::vllm && vllm ? fmt::format("vllm:{}", vllm) : fmt::format("lathe_{}", lathe);
  };
  std::vector<std::pair<std::string, Families::Sample>> of;  // with their label
  for (const MeasuredModel& m : models)
    of.push_back({fmt::format("model_name=\"{}\"", escaped_label(m.id)), {*m.metrics, *m.engine, m.engine->load()}});
  std::string text;
  for (const Families::Family& f : Families::kAll) {
    const std::string name = named(f.lathe, f.vllm);
    text += Families::head(name, f.type, f.help);
    for (const auto& [label, sample] : of)
      text += f.value ? fmt::format("{}{{{}}} {}\n", name, label, f.value(sample))
                      : histogram_text(name, label, f.histogram(sample));
  }
  const std::string name = named("sequences_finished_total", "request_success_total");
  text += Families::head(name, "counter", "Sequences that ended, by the reason.");
  for (const auto& [label, sample] : of)
    for (const FinishReason reason : {FinishReason::stop, FinishReason::length, FinishReason::error})
      text += fmt::format("{}{{{},finished_reason=\"{}\"}} {}\n", name, label, lathe::name(reason),
                          Families::endings(sample.metrics).at(static_cast<size_t>(reason)));
  return text;
}

}  // namespace lathe
