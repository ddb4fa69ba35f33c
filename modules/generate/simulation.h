// The scheduler over synthetic time: what it does with a trace of requests, without a model behind it.
//
// The scheduler and the block manager are the engine's own. A step takes as long as reading the weights does, or as
// computing its new tokens does, whichever is longer (the roofline of a transformer's linears; attention is left out).
// After every step the budgets and the count of every page are checked, so a trace that a server met can be looked at
// again, and a change of policy can be tried on it in seconds.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "generate/scheduler.h"

namespace lathe {

struct TracedRequest {
  double arrival = 0.0;  // seconds
  int64_t prompt_tokens = 1, answer_tokens = 1;
  // What the prompt consists of, block after block: equal numbers are equal tokens, as far as they begin the prompt.
  std::vector<int64_t> blocks = {};
};

struct SimulationOptions {
  SchedulerOptions scheduler;
  std::vector<PageGroup> groups;
  double step_seconds = 0.02;         // the shortest step
  double tokens_per_second = 2000.0;  // new tokens that a long step computes
  int64_t block_tokens = 512;         // of TracedRequest::blocks
};

struct SimulatedRequest {
  std::string refused;                  // why it could never run; the times are 0 then
  double first_token = 0.0, end = 0.0;  // seconds, on the clock of arrivals
  double longest_gap = 0.0;             // between two tokens of the answer
  int64_t cached = 0;                   // tokens of the prompt found in the prefix cache
  int64_t preemptions = 0;
};

struct SimulatedStep {
  double begin = 0.0, seconds = 0.0;
  int64_t sequences = 0, new_tokens = 0, waiting = 0;
  int64_t used_pages = 0, cached_pages = 0;  // of all groups
};

struct Simulation {
  std::vector<SimulatedRequest> requests;  // in the order of the trace
  std::vector<SimulatedStep> steps;
};

// The trace is in the order of arrival. Throws Error where a step breaks a budget, loses a page or leaves a sequence
// behind younger ones: a fault of the scheduler.
Simulation simulate(const std::vector<TracedRequest>& trace, const SimulationOptions& options);

}  // namespace lathe
