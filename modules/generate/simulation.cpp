#include "generate/simulation.h"

#include <algorithm>
#include <limits>
#include <map>
#include <memory>

#include "tensor/errors.h"
#include "tensor/random.h"

namespace lathe {
namespace {

// Tokens of one stream: those of a block, or of what a request has to itself.
int32_t token_of(uint64_t stream, int64_t index) {
  const auto half = [](uint64_t x, int which) { return static_cast<uint32_t>(x >> (32 * which)); };
  const auto at = static_cast<uint64_t>(index);
  return static_cast<int32_t>(philox({half(stream, 0), half(stream, 1)}, {half(at, 0), half(at, 1), 0, 0})[0] >> 1);
}

class Simulator {
 public:
  Simulator(const std::vector<TracedRequest>& trace, const SimulationOptions& options)
      : trace_(trace), options_(options), blocks_(options.groups), scheduler_(blocks_, options.scheduler) {
    result_.requests.resize(trace.size());
  }

  Simulation run() {
    for (size_t next = 0;;) {
      while (next < trace_.size() && trace_[next].arrival <= now_) add(next++);
      if (step()) continue;
      check(running_.empty(), "simulate", "the scheduler leaves {} sequences where they are", running_.size());
      if (next == trace_.size()) break;
      now_ = trace_[next].arrival;
    }
    check_pages();
    return std::move(result_);
  }

 private:
  struct Running {
    Sequence sequence;
    double last_token = -1.0;
  };

  void add(size_t request) {
    const TracedRequest& traced = trace_[request];
    auto r = std::make_unique<Running>();
    Sequence& s = r->sequence;
    s.id = request;
    s.prompt_tokens = traced.prompt_tokens;
    s.token_limit = traced.prompt_tokens + traced.answer_tokens;
    for (int64_t i = 0; i < traced.prompt_tokens; ++i) {
      const auto block = static_cast<size_t>(i / options_.block_tokens);
      // Block numbers and requests never name one stream.
      const uint64_t stream = block < traced.blocks.size() ? 2 * static_cast<uint64_t>(traced.blocks[block]) : own(s);
      s.tokens.push_back(token_of(stream, i));
    }
    try {
      scheduler_.add(s);
    } catch (const Error& error) {
      result_.requests[request].refused = error.what();
      return;
    }
    running_.emplace(s.id, std::move(r));
  }

  static uint64_t own(const Sequence& s) { return 2 * s.id + 1; }

  // False where there was nothing to do.
  bool step() {
    const StepPlan plan = scheduler_.plan();
    if (plan.items.empty()) return false;
    check_plan(plan);
    int64_t tokens = 0;
    for (const StepPlan::Item& item : plan.items) tokens += item.new_tokens;
    const double seconds = std::max(options_.step_seconds, static_cast<double>(tokens) / options_.tokens_per_second);
    std::vector<Sequence*> sampled;
    for (const StepPlan::Item& item : plan.items)
      if (item.samples()) sampled.push_back(item.sequence);
    scheduler_.commit(plan);
    check_pages();
    result_.steps.push_back({now_, seconds, std::ssize(plan.items), tokens, static_cast<int64_t>(scheduler_.waiting()),
                             used_pages(), cached_pages()});
    now_ += seconds;
    for (Sequence* s : sampled) sample(*s);
    return true;
  }

  void sample(Sequence& s) {
    Running& r = *running_.at(s.id);
    SimulatedRequest& request = result_.requests[s.id];
    if (r.last_token < 0.0)
      request.first_token = now_;
    else
      request.longest_gap = std::max(request.longest_gap, now_ - r.last_token);
    r.last_token = now_;
    s.tokens.push_back(token_of(own(s), s.length()));
    if (s.length() < s.token_limit) return;
    request.end = now_;
    request.cached = s.shared;
    request.preemptions = s.preemptions;
    scheduler_.remove(s);
    running_.erase(s.id);
  }

  void check_plan(const StepPlan& plan) const {
    const SchedulerOptions& limits = options_.scheduler;
    int64_t tokens = 0;
    for (size_t i = 0; i < plan.items.size(); ++i) {
      const StepPlan::Item& item = plan.items[i];
      check(item.new_tokens >= 1 && item.new_tokens <= item.sequence->remaining(), "simulate",
            "sequence {} brings {} of {} tokens", item.sequence->id, item.new_tokens, item.sequence->remaining());
      tokens += item.new_tokens;
    }
    check(tokens <= limits.max_batch_tokens, "simulate", "a step has {} tokens, at most {} are allowed", tokens,
          limits.max_batch_tokens);
    check(static_cast<int64_t>(scheduler_.running()) <= limits.max_sequences, "simulate",
          "{} sequences run, at most {} are allowed", scheduler_.running(), limits.max_sequences);
    // Nobody starves: the oldest takes part in every step.
    const uint64_t oldest = running_.begin()->first;
    check(std::any_of(plan.items.begin(), plan.items.end(),
                      [&](const StepPlan::Item& item) { return item.sequence->id == oldest; }),
          "simulate", "the oldest sequence, {}, takes no part in a step", oldest);
  }

  // Every page is referenced as often as it stands in a list, and is free where it stands in none.
  void check_pages() {
    for (size_t g = 0; g < blocks_.groups(); ++g) {
      references_.assign(static_cast<size_t>(blocks_.pages(g)), 0);
      for (const auto& [id, r] : running_)
        if (g < r->sequence.pages.size())
          for (const int32_t page : r->sequence.pages[g])
            if (page >= 0) ++references_[static_cast<size_t>(page)];
      for (size_t page = 0; page < references_.size(); ++page)
        check(references_[page] == blocks_.references(g, static_cast<int32_t>(page)), "simulate",
              "page {} of group {} stands in {} lists and is counted {} times", page, g, references_[page],
              blocks_.references(g, static_cast<int32_t>(page)));
      const auto free = std::count(references_.begin(), references_.end(), 0);
      check(free == blocks_.free_pages(g), "simulate", "group {} has {} free pages and counts {}", g, free,
            blocks_.free_pages(g));
    }
  }

  int64_t used_pages() const {
    int64_t pages = 0;
    for (size_t g = 0; g < blocks_.groups(); ++g) pages += blocks_.pages(g) - blocks_.free_pages(g);
    return pages;
  }
  int64_t cached_pages() const {
    int64_t pages = 0;
    for (size_t g = 0; g < blocks_.groups(); ++g) pages += blocks_.cached_pages(g);
    return pages;
  }

  const std::vector<TracedRequest>& trace_;
  const SimulationOptions& options_;
  BlockManager blocks_;
  Scheduler scheduler_;
  double now_ = 0.0;
  std::map<uint64_t, std::unique_ptr<Running>> running_;  // those that wait as well, oldest first
  std::vector<int64_t> references_;
  Simulation result_;
};

}  // namespace

Simulation simulate(const std::vector<TracedRequest>& trace, const SimulationOptions& options) {
  check(std::is_sorted(trace.begin(), trace.end(),
                       [](const TracedRequest& a, const TracedRequest& b) { return a.arrival < b.arrival; }),
        "simulate", "the requests are not in the order of their arrival");
  return Simulator(trace, options).run();
}

}  // namespace lathe
