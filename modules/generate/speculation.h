// Speculative decoding: a drafter proposes the next few tokens, the model verifies them all in one pass.
//
// Leviathan et al. 2023 accept a draft token with a probability; here the model samples every position with that
// position's own random number, as it would without drafts, and a draft token is accepted while it equals the sample.
// So the text is the same, sampled text too, and a draft can only cost time. Whether it gains any depends on how many
// draft tokens are accepted and on what verifying costs, which is measured while it runs.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "generate/sampler.h"
#include "llm/causal_lm.h"

namespace lathe {

// A sequence that wants draft tokens.
struct DraftRequest {
  uint64_t sequence = 0;            // the same number from call to call
  std::span<const int32_t> tokens;  // prompt and answer so far
  const SamplingParameters& sampling;
  SampleKey key;  // of the first draft token; the position counts up
};

class Drafter {
 public:
  virtual ~Drafter() = default;
  // At most `most` tokens that may follow; none where it has no proposal.
  virtual std::vector<int32_t> draft(const DraftRequest& request, int64_t most) = 0;
  // The sequence is over.
  virtual void forget(uint64_t /*sequence*/) {}
};

// What followed the last time that the sequence's last three tokens (else two) stood in it. Costs nothing, and helps
// where an answer quotes: code, extraction, revision. Saxena 2023, "Prompt Lookup Decoding".
std::unique_ptr<Drafter> make_ngram_drafter();

// A smaller model, which samples with the random numbers of the `target`. The drafter keeps it alive. `context`: the
// most tokens of a sequence; `sequences`: the most at once. Throws Error where its vocabulary is not the target's.
std::unique_ptr<Drafter> make_model_drafter(std::shared_ptr<const CausalLM> model, const CausalLM& target,
                                            DType cache_dtype, int64_t context, int64_t sequences);

// Counts what speculation does, and stops it while it loses time.
class SpeculationControl {
 public:
  // Draft tokens a sequence that are worth asking for in the next step; 0: none.
  int64_t draft_length(int64_t most);
  // A decoding step of `sequences` sequences that took `seconds`, drafting included.
  void report(int64_t sequences, int64_t drafted, int64_t accepted, double seconds);

  int64_t drafted() const { return drafted_; }
  int64_t accepted() const { return accepted_; }
  // Seconds of a speculating step in those of a plain one, and the tokens that it brings a sequence; 0 where nothing
  // was measured. Their ratio is the gain: above 1 it pays.
  double cost() const { return plain_seconds_ > 0 ? speculative_seconds_ / plain_seconds_ : 0; }
  double yield() const { return yield_; }

 private:
  int64_t drafted_ = 0, accepted_ = 0, steps_ = 0;
  int64_t paused_ = 0;                                              // plain steps that are left before the next attempt
  double plain_seconds_ = 0, speculative_seconds_ = 0, yield_ = 0;  // running means, of a step and a sequence
};

}  // namespace lathe
