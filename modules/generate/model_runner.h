// Runs a model over cached sequences, with the key-value cache that this fills; on all ranks where several share the
// model out.
//
// There the first rank decides everything: which sequences, which pages, which tokens. It tells the others what it is
// about to run, and they run it with it; what it makes of the logits they need not know.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "generate/block_manager.h"
#include "generate/decode_graphs.h"
#include "llm/causal_lm.h"

namespace lathe {

class ModelRunner {
 public:
  // Decoding steps of up to `graphed_sequences` sequences on a CUDA device run as graphs. A cache of `pages` pages in
  // each layer group, on all ranks as many as on the first, for sequences of at most `longest` tokens. The model must
  // live as long.
  ModelRunner(const CausalLM& model, DType cache_dtype, const std::vector<int64_t>& pages, int64_t longest,
              int64_t graphed_sequences = 0);
  ~ModelRunner();  // on the first rank: lets the others go, but where a pass has failed
  ModelRunner(const ModelRunner&) = delete;
  ModelRunner& operator=(const ModelRunner&) = delete;

  // Copies pages, then runs the model: the logits that the sequences want, (R, V); undefined where none does.
  // They may be overwritten by the next pass. `hidden`, where it is given, becomes the hidden states of all new tokens,
  // (N, C).
  Tensor run(std::span<const PageCopy> copies, std::span<const BatchSequence> sequences, Tensor* hidden = nullptr);
  // On the other ranks: runs what the first one runs until that one's runner is gone, then returns true. False at once
  // on the first.
  bool follow();

  const KVCache& cache() const { return cache_; }

 private:
  Tensor run_own(std::span<const PageCopy> copies, std::span<const BatchSequence> sequences, Tensor* hidden);
  void run_told(const std::string& message);

  const CausalLM& model_;
  KVCache cache_;
  std::unique_ptr<DecodeGraphs> graphs_;            // null: none
  RopeTables ropes_;                                // of the other ranks
  std::vector<std::shared_ptr<RopeTable>> tables_;  // of their last pass: the next one's are mostly the same
  bool in_pass_ = false;
};

}  // namespace lathe
