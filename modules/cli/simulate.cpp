// lathe simulate: what the scheduler would do with a trace of requests, without a model.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/figures.h"
#include "cli/json_file.h"
#include "cli/model_options.h"
#include "formats/atomic_file.h"
#include "formats/json_node.h"
#include "formats/strict_json.h"
#include "generate/simulation.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;

struct SimulateOptions {
  std::string trace, steps;
  int64_t cache_tokens = 65536;
  SimulationOptions simulation;
  bool json = false;
};

// The keys of Mooncake's published traces (Qin et al. 2024), which other tools of serving read as well.
TracedRequest read_traced(const OrderedJsonNode& line) {
  constexpr int64_t kMostTokens = int64_t{1} << 24;
  for (const auto& [key, value] : line.value().items())
    if (key != "timestamp" && key != "input_length" && key != "output_length" && key != "hash_ids")
      line.fail(fmt::format("{} is not known: expected timestamp, input_length, output_length, hash_ids", quote(key)));
  TracedRequest request;
  request.arrival = line.at("timestamp").number() / 1000.0;
  if (request.arrival < 0.0) line.at("timestamp").expected("milliseconds from 0");
  request.prompt_tokens = line.at("input_length").integer(1, kMostTokens);
  request.answer_tokens = line.at("output_length").integer(1, kMostTokens);
  if (!line.has("hash_ids")) return request;
  const OrderedJsonNode blocks = line.at("hash_ids");
  for (size_t i = 0; i < blocks.size(); ++i) request.blocks.push_back(blocks.at(i).integer(0));
  return request;
}

std::vector<TracedRequest> read_trace(const std::string& path) {
  std::vector<TracedRequest> trace;
  for_each_json_line(read_text(path), path, [&](const Json& value, const std::string& where) {
    const OrderedJsonNode line(value, where, ": ");
    if (!value.is_object()) line.expected("an object");
    trace.push_back(read_traced(line));
  });
  check(!trace.empty(), "--trace", "{} holds no request", path);
  std::stable_sort(trace.begin(), trace.end(), [](const auto& a, const auto& b) { return a.arrival < b.arrival; });
  return trace;
}

Json spread(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    return values.empty() ? 0.0
                          : values[static_cast<size_t>(std::lround(share * static_cast<double>(values.size() - 1)))];
  };
  return {{"median", at(0.5)}, {"90_percent", at(0.9)}, {"99_percent", at(0.99)}, {"max", at(1.0)}};
}

Json figures_of(const std::vector<TracedRequest>& trace, const Simulation& simulated) {
  std::vector<double> first, whole, gaps;
  int64_t refused = 0, prompt = 0, answer = 0, cached = 0, preemptions = 0;
  double end = 0.0;
  for (size_t i = 0; i < trace.size(); ++i) {
    const SimulatedRequest& r = simulated.requests[i];
    if (!r.refused.empty()) {
      ++refused;
      continue;
    }
    first.push_back(r.first_token - trace[i].arrival);
    whole.push_back(r.end - trace[i].arrival);
    gaps.push_back(r.longest_gap);
    prompt += trace[i].prompt_tokens, answer += trace[i].answer_tokens;
    cached += r.cached, preemptions += r.preemptions;
    end = std::max(end, r.end);
  }
  int64_t computed = 0, most_waiting = 0, most_pages = 0;
  double busy = 0.0, sequences = 0.0;
  for (const SimulatedStep& s : simulated.steps) {
    computed += s.new_tokens;
    most_waiting = std::max(most_waiting, s.waiting);
    most_pages = std::max(most_pages, s.used_pages);
    busy += s.seconds, sequences += s.seconds * static_cast<double>(s.sequences);
  }
  return {{"requests", trace.size()},
          {"refused", refused},
          {"prompt_tokens", prompt},
          {"cached_tokens", cached},
          {"answer_tokens", answer},
          {"computed_tokens", computed},
          {"preemptions", preemptions},
          {"steps", simulated.steps.size()},
          {"seconds", end},
          {"busy_seconds", busy},
          {"answer_tokens_per_second", end > 0.0 ? static_cast<double>(answer) / end : 0.0},
          {"mean_sequences", busy > 0.0 ? sequences / busy : 0.0},
          {"most_waiting", most_waiting},
          {"most_pages", most_pages},
          {"seconds_to_first_token", spread(std::move(first))},
          {"longest_seconds_between_tokens", spread(std::move(gaps))},
          {"seconds_to_end", spread(std::move(whole))}};
}

void write_steps(const std::string& path, const Simulation& simulated) {
  std::string text = "begin,seconds,sequences,new_tokens,waiting,used_pages,cached_pages\n";
  for (const SimulatedStep& s : simulated.steps)
    text += fmt::format("{:.6f},{:.6f},{},{},{},{},{}\n", s.begin, s.seconds, s.sequences, s.new_tokens, s.waiting,
                        s.used_pages, s.cached_pages);
  AtomicFile file(path);
  file.write(text.data(), text.size());
  file.commit();
}

void run_simulate(SimulateOptions& o) {
  const std::vector<TracedRequest> trace = read_trace(o.trace);
  SimulationOptions& options = o.simulation;
  if (options.scheduler.max_batch_tokens < options.scheduler.max_sequences)
    throw UsageError(fmt::format("--max-batch-tokens {} is less than --max-sequences {}: each brings a token",
                                 options.scheduler.max_batch_tokens, options.scheduler.max_sequences));
  if (!(options.step_seconds > 0.0)) throw UsageError("--step-seconds: expected more than 0");
  if (!(options.tokens_per_second > 0.0)) throw UsageError("--tokens-per-second: expected more than 0");
  options.groups = {{0, std::max<int64_t>(1, o.cache_tokens / kPageTokens)}};
  const Simulation simulated = simulate(trace, options);
  for (size_t i = 0, named = 0; i < trace.size() && named < 3; ++i)
    if (const std::string& why = simulated.requests[i].refused; !why.empty())
      ++named, fmt::print(stderr, "lathe: warning: request {} of the trace could never run: {}\n", i + 1, why);
  if (!o.steps.empty()) write_steps(o.steps, simulated);
  const Json figures = figures_of(trace, simulated);
  if (o.json)
    fmt::print("{}\n", dump_line(figures));
  else
    print_figures(figures);
}

}  // namespace

void add_simulate(CommandLine& app) {
  const auto o = std::make_shared<SimulateOptions>();
  const Command command =
      app.add("simulate", "the scheduler over a trace of requests and synthetic time, without a model");
  command
      .option("--trace", o->trace,
              "JSON Lines: timestamp (ms), input_length, output_length, hash_ids (equal ids: equal tokens of a prompt)")
      .required();
  SimulationOptions& s = o->simulation;
  command.option("--max-sequences", s.scheduler.max_sequences, "that run at once").shows_default().positive();
  command.option("--max-batch-tokens", s.scheduler.max_batch_tokens, "new tokens of a step").shows_default().positive();
  command.option("--cache-tokens", o->cache_tokens, "what the key-value cache holds").shows_default().positive();
  command.flag("--prefix-cache,!--no-prefix-cache", s.scheduler.prefix_cache, "use pages of equal beginnings again");
  command.option("--hash-block", s.block_tokens, "tokens that one of hash_ids stands for").shows_default().positive();
  command.option("--step-seconds", s.step_seconds, "the shortest step: all weights are read once").shows_default();
  command.option("--tokens-per-second", s.tokens_per_second, "new tokens that a long step computes").shows_default();
  command.output("--steps", o->steps, "a CSV file with one line a step");
  command.flag("--json", o->json, "one JSON object");
  command.example("Example: lathe simulate --trace trace.jsonl --cache-tokens 32768 --steps steps.csv");
  command.run([o] { run_simulate(*o); });
}

}  // namespace lathe
