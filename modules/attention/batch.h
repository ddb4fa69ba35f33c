// Batch: everything that a forward pass reads besides the weights.
//
// The tokens of all sequences lie one after another, (N); prefill, decode, chunks and verification differ only in how
// many new tokens a sequence brings. Built by make_batch; read by embed, rope, attend and the row selection before the
// head.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "attention/kv_cache.h"
#include "attention/rope_table.h"
#include "autograd/low_rank.h"
#include "autograd/ops.h"

namespace lathe {

// Where the tokens of one layer group lie in the cache.
struct PageTable {
  Tensor pages;  // (S, P) i32: page of each 16 positions, -1 where freed or unused
  Tensor slots;  // (N) i32: page * 16 + offset for each new token; -1 writes nothing
};

struct Batch {
  // What kernels, scratch and grids are chosen by, so that no element is read to decide anything.
  struct Sizes {
    int64_t tokens = 0;           // N
    int64_t sequences = 0;        // S
    int64_t rows = 0;             // R
    int64_t longest_context = 0;  // tokens of the longest sequence after this pass
    int64_t most_new_tokens = 0;  // that one sequence brings
  } sizes;
  Tensor tokens;                       // (N) i32
  Tensor positions;                    // (N) i32
  Tensor seq_start;                    // (S + 1) i32: first new token of each sequence
  Tensor context_len;                  // (S) i32: tokens of each sequence after this pass, cached ones included
  Tensor logit_rows;                   // (R) i32: rows of hidden states that want logits
  std::vector<PageTable> page_tables;  // by layer group; empty without a cache
  std::vector<RopeAngles> rope;        // by kind of rope in the model (one for most); empty without rope
  bool recompute = false;              // blocks keep no activations for the backward pass
  KVCache* cache = nullptr;            // null: attention over the batch's own tokens (training)

  const PageTable& page_table(int64_t layer) const { return page_tables[cache->group_of(layer)]; }
};

// One sequence's share of a batch.
struct BatchSequence {
  std::span<const int32_t> tokens;              // the new ones, at least one
  int64_t cached = 0;                           // tokens before them, already in the cache
  std::vector<std::span<const int32_t>> pages;  // by layer group: pages of the positions from 0; unused without a cache
  RopeTable* rope = nullptr;                    // null without rope
  int64_t logits_from = 0;                      // logits wanted for new tokens [logits_from, tokens.size())
  const LowRankChanges* changes = nullptr;      // of the adapter that the sequence wants; null: the model as it is
};

// A batch in memory that stays where it is: one new token, with its logits, of each of up to so many sequences of at
// most so many tokens, whatever the sequences are. Behind those that were filled in last come padding rows, which write
// nothing (slot -1) and see nothing (context 0). All its sizes are the largest, so that what runs over it is the same
// work each time.
class DecodeBatch {
 public:
  DecodeBatch(int64_t sequences, int64_t longest_context, KVCache& cache, RopeTable* rope);
  // Throws Error when there are more of them, or one brings more than a token or is longer.
  void fill(std::span<const BatchSequence> sequences);
  const Batch& batch() const { return batch_; }

 private:
  Tensor on_host_, on_device_;  // all integers of the batch, in the order of its members
  Batch batch_;                 // views of those on the device
};

// The tensors lie on the cache's device, or on `device` without one. Throws Error when pages are too few.
Batch make_batch(std::span<const BatchSequence> sequences, KVCache* cache, Device device = {});

}  // namespace lathe
