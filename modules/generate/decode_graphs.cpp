#include "generate/decode_graphs.h"

#include <algorithm>
#include <array>
#include <bit>

namespace lathe {
namespace {

constexpr int64_t kShortestContext = 256;

}  // namespace

struct DecodeGraphs::Bucket {
  DecodeBatch batch;
  int64_t last_used = 0;
  std::unique_ptr<Graph> graph = {};

  // Over the same angles: those of `rope`, which the batch keeps alive.
  bool has_angles_of(RopeTable* rope) const {
    return rope == nullptr || rope->reach(0).front().cos.raw() == batch.batch().rope.front().cos.raw();
  }
};

DecodeGraphs::DecodeGraphs(const CausalLM& model, KVCache& cache, int64_t longest, int64_t most_sequences)
    : model_(model),
      cache_(cache),
      longest_(longest),
      most_sequences_(most_sequences),
      recording_(cache.device()),
      logits_(Tensor::empty({bucket_rows(most_sequences), model.head().weight->shape[0]}, DType::f32, cache.device())) {
}
DecodeGraphs::~DecodeGraphs() = default;

int64_t DecodeGraphs::bucket_rows(int64_t sequences) {
  constexpr std::array<int64_t, 9> kSmall = {1, 2, 4, 8, 16, 24, 32, 48, 64};
  const auto found = std::lower_bound(kSmall.begin(), kSmall.end(), sequences);
  return found != kSmall.end() ? *found : (sequences + 31) / 32 * 32;
}

int64_t DecodeGraphs::bucket_context(int64_t context) {
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max(context, kShortestContext))));
}

bool DecodeGraphs::takes(std::span<const BatchSequence> sequences) const {
  RopeTable* rope = sequences.front().rope;
  if (!recordable_ || std::ssize(sequences) > most_sequences_ || (rope != nullptr && rope->frequencies.behind))
    return false;
  return std::all_of(sequences.begin(), sequences.end(), [&](const BatchSequence& s) {
    return s.tokens.size() == 1 && s.logits_from == 0 && s.rope == rope && s.changes == nullptr;
  });
}

Tensor DecodeGraphs::run(std::span<const BatchSequence> sequences) {
  int64_t longest = 0;
  for (const BatchSequence& s : sequences) longest = std::max(longest, s.cached + 1);
  const int64_t rows = bucket_rows(std::ssize(sequences)), context = std::min(bucket_context(longest), longest_);
  RopeTable* rope = sequences.front().rope;
  std::unique_ptr<Bucket>& bucket = buckets_[{rows, context}];
  if (!bucket || !bucket->has_angles_of(rope)) {
    bucket.reset();
    bucket.reset(new Bucket{DecodeBatch(rows, context, cache_, rope)});
  }
  bucket->last_used = ++steps_;
  bucket->batch.fill(sequences);
  const auto work = [&] { logits_.row_range(0, rows).copy_from(logits(model_, bucket->batch.batch())); };
  if (bucket->graph) {
    bucket->graph->replay();
  } else {
    if (buckets_.size() > kMostBuckets) drop_least_used(buckets_);
    try {
      bucket->graph = std::make_unique<Graph>(recording_, work);  // runs it
    } catch (const NotRecordable&) {
      recordable_ = false;
    }
  }
  return logits_.row_range(0, std::ssize(sequences));
}

}  // namespace lathe
