// Decoding steps on a CUDA device as graphs: a step of one token a sequence is some hundreds of kernels that take
// microseconds each, and starting them one by one takes the host longer than the device takes to run them.
//
// A graph is recorded for a bucket: so many rows and so long a context, both rounded up, over a DecodeBatch of its own.
// Models whose steps wait for the device (experts with adapters do) run without. The bucket that was used least lately
// makes room for one beyond kMostBuckets. What the steps of a bucket run, and so the bits, is what runs without graphs
// over that batch.
#pragma once
#include <map>
#include <memory>
#include <span>

#include "llm/causal_lm.h"
#include "tensor/stream.h"

namespace lathe {

class DecodeGraphs {
 public:
  // For steps of at most `most_sequences` and contexts of at most `longest` tokens. Both references must live as long.
  DecodeGraphs(const CausalLM& model, KVCache& cache, int64_t longest, int64_t most_sequences);
  ~DecodeGraphs();

  // Whether a pass is a decoding step that a graph can be recorded for: one new token with its logits of each
  // sequence, without adapters of requests, and angles that do not change with the length of the text.
  bool takes(std::span<const BatchSequence> sequences) const;
  // The logits of the sequences, (S, V). They are overwritten by the next step.
  Tensor run(std::span<const BatchSequence> sequences);

  static constexpr size_t kMostBuckets = 24;
  // 1, 2, 4, 8, 16, 24, 32, 48, 64, and from there multiples of 32: the rows of the smallest bucket for so many.
  static int64_t bucket_rows(int64_t sequences);
  // 256, 512, 1024, ...: the longest context of the smallest bucket for such a one.
  static int64_t bucket_context(int64_t context);

 private:
  struct Bucket;
  const CausalLM& model_;
  KVCache& cache_;
  int64_t longest_, most_sequences_, steps_ = 0;
  bool recordable_ = true;  // until the first step says otherwise
  Stream recording_;
  Tensor logits_;  // (rows of the largest bucket, V), of all buckets
  std::map<std::pair<int64_t, int64_t>, std::unique_ptr<Bucket>> buckets_;  // by rows and longest context
};

}  // namespace lathe
