// Sequences of one model in a key-value cache of their own: begun, fed, forked and let go by hand.
//
// How everything but the engine feeds the cache: scores and logits, which need the hidden states of every token and not
// of a sequence's last one alone, and the drafter. The passes are those of the engine, so the bits are, too.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "generate/block_manager.h"
#include "llm/causal_lm.h"

namespace lathe {

struct CachedSequence {
  SequencePages pages;
  int64_t length = 0;               // tokens in the cache; a smaller one forgets the last
  std::shared_ptr<RopeTable> rope;  // null without rope
};

class SequenceCache {
 public:
  struct Extension {
    CachedSequence* sequence;
    std::span<const int32_t> tokens;
  };

  // Room for `pages` pages of 16 tokens in each layer group; no sequence has more than `longest` tokens. The model must
  // live as long.
  SequenceCache(const CausalLM& model, DType dtype, int64_t longest, int64_t pages);

  // An empty sequence for a text of so many tokens, on which some rotary scalings depend.
  CachedSequence begin(int64_t text_length);
  // Appends to each sequence (no one twice) its tokens and returns their hidden states (N, C), one sequence after
  // another. Runs the model over at most 512 tokens at a time, of as many sequences as fit. Throws Error when pages are
  // too few.
  Tensor extend(std::span<const Extension> extensions);
  // Takes the pages that `count` more tokens of a sequence need. False, and nothing changed, where there are too few.
  bool reserve(CachedSequence& sequence, int64_t count);
  // A sequence that shares the first `length` tokens of another.
  CachedSequence fork(const CachedSequence& source, int64_t length);
  // Empties a sequence and gives its pages back.
  void release(CachedSequence& sequence);

 private:
  BatchSequence next_piece(const Extension& extension, int64_t begin, int64_t count);

  const CausalLM& model_;
  KVCache cache_;
  BlockManager blocks_;
  RopeTables ropes_;
};

// All logits (N, V) f32 of one sequence, computed as the engine does: through a cache of `cache_dtype`, in chunks.
Tensor all_logits(const CausalLM& model, std::span<const int32_t> tokens, DType cache_dtype);

}  // namespace lathe
