#include "generate/scheduler.h"

#include <algorithm>

#include "tensor/errors.h"

namespace lathe {
namespace {

bool older(const Sequence* a, const Sequence* b) { return a->id < b->id; }

}  // namespace

Scheduler::Scheduler(BlockManager& blocks, SchedulerOptions options) : blocks_(blocks), options_(options) {
  check(options.max_sequences >= 1, "scheduler", "max_sequences must be at least 1, found {}", options.max_sequences);
  check(options.max_batch_tokens >= options.max_sequences, "scheduler",
        "a step of {} tokens has no room for one of each of {} sequences", options.max_batch_tokens,
        options.max_sequences);
}

void Scheduler::check_room(int64_t token_limit) const {
  for (size_t g = 0; g < blocks_.groups(); ++g) {
    const int64_t needed = peak_pages(blocks_.window(g), token_limit, options_.max_batch_tokens);
    if (needed > blocks_.pages(g))
      throw Error(fmt::format("scheduler: a sequence of up to {} tokens needs {} pages of {} tokens, the cache has {}",
                              token_limit, needed, kPageTokens, blocks_.pages(g)),
                  "ask for fewer new tokens, or give the cache more memory (--kv-memory)");
  }
}

int64_t Scheduler::longest_sequence(int64_t context) const {
  for (size_t g = 0; g < blocks_.groups(); ++g)
    if (peak_pages(blocks_.window(g), context, options_.max_batch_tokens) > blocks_.pages(g))
      context = std::min(context, blocks_.pages(g) * kPageTokens);
  return context;
}

void Scheduler::add(Sequence& sequence) {
  check_room(sequence.token_limit);
  sequence.status = SequenceStatus::waiting;
  waiting_.insert(std::upper_bound(waiting_.begin(), waiting_.end(), &sequence, older), &sequence);
}

void Scheduler::remove(Sequence& sequence) {
  std::erase(running_, &sequence);
  std::erase(waiting_, &sequence);
  release(sequence);
  sequence.status = SequenceStatus::finished;
}

std::vector<Sequence*> Scheduler::decoding() const {
  std::vector<Sequence*> list;
  for (Sequence* s : running_)
    if (s->remaining() == 1) list.push_back(s);
  return list;
}

StepPlan Scheduler::plan() {
  StepPlan plan;
  int64_t prompt_budget = options_.max_batch_tokens, scored_budget = options_.max_scored_tokens;
  for (const Sequence* s : decoding()) prompt_budget -= 1 + std::ssize(s->draft);
  check(prompt_budget >= 0, "scheduler", "drafts exceed the step's {} tokens", options_.max_batch_tokens);

  for (size_t i = 0; i < running_.size(); ++i) {  // may shrink from its end
    Sequence& s = *running_[i];
    const bool decodes = s.remaining() == 1;
    const int64_t budget = s.scores_prompt ? std::min(prompt_budget, scored_budget) : prompt_budget;
    const int64_t new_tokens = decodes ? 1 : std::min(s.remaining(), budget);
    if (new_tokens == 0 || !advance(s, new_tokens, decodes ? std::ssize(s.draft) : 0, plan)) continue;
    if (decodes) continue;
    prompt_budget -= new_tokens;
    if (s.scores_prompt) scored_budget -= new_tokens;
  }

  const bool was_idle = running_.empty();
  while (!waiting_.empty() && prompt_budget > 0 && std::ssize(running_) < options_.max_sequences) {
    Sequence& s = *waiting_.front();
    const int64_t budget = s.scores_prompt ? std::min(prompt_budget, scored_budget) : prompt_budget;
    if (budget <= 0 || !admit(s, budget, plan)) break;
    waiting_.pop_front();
    running_.push_back(&s);
    prompt_budget -= plan.items.back().new_tokens;
    if (s.scores_prompt) scored_budget -= plan.items.back().new_tokens;
  }
  check(!was_idle || waiting_.empty() || !plan.items.empty(), "scheduler", "the oldest sequence cannot start alone");
  return plan;
}

// Reserves pages, taking them from the youngest sequences where none are free; those come later in the plan, so that
// nothing already planned is undone. A draft is not worth anybody's pages. False when the sequence itself had to go.
bool Scheduler::advance(Sequence& s, int64_t new_tokens, int64_t drafted, StepPlan& plan) {
  while (!blocks_.reserve(s.pages, s.cached, s.cached + new_tokens + drafted, plan.copies)) {
    if (drafted > 0) {
      drafted = 0;
      continue;
    }
    const bool itself = running_.back() == &s;
    preempt_youngest(plan);
    if (itself) return false;
  }
  plan.items.push_back({&s, new_tokens, drafted});
  return true;
}

void Scheduler::preempt_youngest(StepPlan& plan) {
  Sequence& s = *running_.back();
  running_.pop_back();
  release(s);
  s.status = SequenceStatus::waiting;
  ++s.preemptions;
  ++plan.preempted;
  waiting_.push_front(&s);  // everything that waits is younger
}

// Admits a sequence only where pages for all of its present tokens are free, and one more for each sequence that runs
// already: else it would soon be preempted again.
bool Scheduler::admit(Sequence& s, int64_t budget, StepPlan& plan) {
  if (!share_prompt(s)) return false;
  const int64_t new_tokens = std::min(s.remaining(), budget);
  if (!blocks_.has_room(s.pages, s.cached, s.length(), options_.max_batch_tokens, std::ssize(running_)) ||
      !blocks_.reserve(s.pages, s.cached, s.cached + new_tokens, plan.copies)) {
    release(s);
    return false;
  }
  if (!s.admitted) s.shared = s.cached;
  s.admitted = true;
  s.status = SequenceStatus::running;
  plan.items.push_back({&s, new_tokens});
  return true;
}

// Takes over the leader's pages of the prompt, but for the last token: its logits are needed. False while the leader
// is still computing them. Without a leader whose keys are of the same kind, what the prefix cache has of the tokens so
// far; generated ones are among them after a preemption.
bool Scheduler::share_prompt(Sequence& s) {
  const auto leader = std::find_if(running_.begin(), running_.end(), [&](const Sequence* other) {
    return s.leader && other->id == *s.leader && other->prefix_kind == s.prefix_kind;
  });
  if (leader != running_.end()) {
    if ((*leader)->cached < s.prompt_tokens) return false;
    if (blocks_.fork((*leader)->pages, s.prompt_tokens - 1, s.pages)) {
      s.cached = s.prompt_tokens - 1;
      return true;
    }
  }
  if (options_.prefix_cache && s.prefix_cache && !s.scores_prompt)
    s.cached = blocks_.share_prefix(s.prefix_kind, s.tokens, s.pages);
  return true;
}

void Scheduler::release(Sequence& s) {
  blocks_.release(s.pages);
  blocks_.retract(s.published);
  s.cached = 0;
  s.draft.clear();
}

void Scheduler::commit(const StepPlan& plan) {
  for (const StepPlan::Item& item : plan.items) {
    Sequence& s = *item.sequence;
    s.cached += item.new_tokens;
    if (options_.prefix_cache && s.prefix_cache)
      blocks_.publish(s.prefix_kind, s.tokens, s.cached, s.pages, s.published);
    blocks_.release_unseen(s.pages, s.cached);
  }
}

}  // namespace lathe
