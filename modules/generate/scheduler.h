// Which sequences take part in the next step, and with how many tokens.
//
// Continuous batching (Yu et al. 2022, Orca, section 3.1) over a paged cache (Kwon et al. 2023, section 4): at every
// step each decoding sequence brings one token, and what is left of the step's budget goes to prompts, oldest first, in
// chunks. When pages run out, the youngest running sequence gives back all of its own and is computed anew later;
// recomputation gives the same bits, so nobody can tell.
//
// Sequences run in the order in which they came, without exception. So the oldest one always gets on, and whoever fits
// alone finishes. There is no clock here: the same calls give the same plans.
#pragma once
#include <cstdint>
#include <deque>
#include <vector>

#include "generate/sequence.h"

namespace lathe {

struct SchedulerOptions {
  int64_t max_sequences = 64;       // that run at once
  int64_t max_batch_tokens = 512;   // new tokens of a step; at least max_sequences
  bool prefix_cache = true;         // pages of earlier sequences with the same beginning are used again
  int64_t max_scored_tokens = 512;  // of these new tokens, those of prompts whose logits are all wanted
};

// What one step computes.
struct StepPlan {
  struct Item {
    Sequence* sequence;
    int64_t new_tokens;   // tokens [cached, cached + new_tokens) are computed
    int64_t drafted = 0;  // and so many of the sequence's draft behind them
    // Before the step is carried out: whether it brings one token of an answer and no part of a prompt.
    bool decodes() const { return new_tokens == 1 && sequence->length() > sequence->prompt_tokens; }
    // Whether they are the last ones known, so that the next one can be sampled.
    bool samples() const { return new_tokens == sequence->remaining(); }
  };
  std::vector<Item> items;
  std::vector<PageCopy> copies;  // to be performed in order, before the step
  int64_t preempted = 0;
};

class Scheduler {
 public:
  Scheduler(BlockManager& blocks, SchedulerOptions options);

  // Throws Error with the counts where the cache could not hold a sequence of `token_limit` tokens even alone. From any
  // thread.
  void check_room(int64_t token_limit) const;
  // The most tokens up to `context` for which there is room.
  int64_t longest_sequence(int64_t context) const;
  // Throws what check_room throws. The sequence must live until it is removed.
  void add(Sequence& sequence);
  // Ends a sequence, running or waiting, and gives back its pages. Not between plan() and commit().
  void remove(Sequence& sequence);

  // Empty where nothing is to do. Reserves the pages for what it names.
  StepPlan plan();
  // Forgets what a running sequence has in the cache: its next steps compute all of it anew. Not between plan() and
  // commit().
  void recompute(Sequence& sequence) { release(sequence); }
  // The plan was carried out: its tokens are cached, pages out of every window are given back.
  void commit(const StepPlan& plan);

  // Those that would bring one token to the next step, and may bring a draft.
  std::vector<Sequence*> decoding() const;

  const SchedulerOptions& options() const { return options_; }
  size_t running() const { return running_.size(); }
  size_t waiting() const { return waiting_.size(); }

 private:
  bool advance(Sequence& sequence, int64_t new_tokens, int64_t drafted, StepPlan& plan);
  bool admit(Sequence& sequence, int64_t budget, StepPlan& plan);
  bool share_prompt(Sequence& sequence);
  void release(Sequence& sequence);
  void preempt_youngest(StepPlan& plan);

  BlockManager& blocks_;
  SchedulerOptions options_;
  std::vector<Sequence*> running_;  // both ascending by id
  std::deque<Sequence*> waiting_;
};

}  // namespace lathe
