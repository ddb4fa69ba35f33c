#include "generate/speculation.h"

#include <algorithm>
#include <map>

#include "generate/sequence_cache.h"
#include "tensor/errors.h"

namespace lathe {
namespace {

class NgramDrafter : public Drafter {
 public:
  std::vector<int32_t> draft(const DraftRequest& request, int64_t most) override {
    const std::span<const int32_t> tokens = request.tokens;
    for (const size_t length : {size_t{3}, size_t{2}}) {
      if (tokens.size() <= length) continue;
      const auto suffix = tokens.last(length);
      for (size_t at = tokens.size() - length; at-- > 0;) {
        if (!std::equal(suffix.begin(), suffix.end(), tokens.begin() + static_cast<std::ptrdiff_t>(at))) continue;
        const auto follows = tokens.subspan(at + length);
        const auto count = std::min(static_cast<size_t>(most), follows.size());
        return {follows.begin(), follows.begin() + static_cast<std::ptrdiff_t>(count)};
      }
    }
    return {};
  }
};

class ModelDrafter : public Drafter {
 public:
  ModelDrafter(std::shared_ptr<const CausalLM> model, DType cache_dtype, int64_t context, int64_t sequences)
      : model_(std::move(model)),
        context_(context),
        cache_(*model_, cache_dtype, context, sequences * pages_for(context)) {}

  std::vector<int32_t> draft(const DraftRequest& request, int64_t most) override {
    std::vector<int32_t> tokens(request.tokens.begin(), request.tokens.end());
    const auto [found, fresh] = states_.try_emplace(request.sequence);
    State& state = found->second;
    if (fresh) state.cached = cache_.begin(std::ssize(tokens));
    // Rejected draft tokens are in the cache; what agrees with the tokens stays.
    const auto parted = std::mismatch(state.fed.begin(), state.fed.end(), tokens.begin(), tokens.end()).first;
    state.fed.resize(std::min(static_cast<size_t>(parted - state.fed.begin()), tokens.size() - 1));
    state.cached.length = std::ssize(state.fed);
    std::vector<int32_t> guesses;
    SampleKey key = request.key;
    while (std::ssize(guesses) < most && std::ssize(tokens) < context_) {
      const Tensor logits = feed(state, tokens);  // (1, V)
      if (!logits.defined()) break;
      const SamplingRow by{unpenalised(request.sampling), key.random(), {}};
      guesses.push_back(*sample(logits, {&by, 1}).to(Device{}).host<int32_t>());
      if (guesses.back() == kNoToken) throw logits_error(logits, key.position);
      tokens.push_back(guesses.back());
      ++key.position;
    }
    return guesses;
  }

  void forget(uint64_t sequence) override {
    const auto found = states_.find(sequence);
    if (found == states_.end()) return;
    cache_.release(found->second.cached);
    states_.erase(found);
  }

 private:
  struct State {
    std::vector<int32_t> fed;  // whose keys and values are in the cache
    CachedSequence cached;
  };

  // The history of penalties is the target's; a draft does without.
  static SamplingParameters unpenalised(SamplingParameters p) {
    p.repetition_penalty = 1.0;
    p.presence_penalty = p.frequency_penalty = 0.0;
    return p;
  }

  // The logits of the last token, (1, V), with all of them in the cache; undefined where pages are too few.
  Tensor feed(State& state, const std::vector<int32_t>& tokens) {
    const SequenceCache::Extension rest{&state.cached, std::span(tokens).subspan(state.fed.size())};
    if (!cache_.reserve(state.cached, std::ssize(rest.tokens))) return {};
    const Tensor hidden = cache_.extend({&rest, 1});  // (N, C)
    state.fed = tokens;
    return apply_head(hidden.row_range(hidden.dim(0) - 1, hidden.dim(0)), model_->head());
  }

  std::shared_ptr<const CausalLM> model_;
  int64_t context_;
  SequenceCache cache_;
  std::map<uint64_t, State> states_;
};

constexpr int64_t kTrial = 8;   // speculating steps before a judgement
constexpr int64_t kPause = 64;  // plain steps after a bad one

void update(double& mean, double value) { mean = mean == 0 ? value : 0.9 * mean + 0.1 * value; }

}  // namespace

std::unique_ptr<Drafter> make_ngram_drafter() { return std::make_unique<NgramDrafter>(); }

std::unique_ptr<Drafter> make_model_drafter(std::shared_ptr<const CausalLM> model, const CausalLM& target,
                                            DType cache_dtype, int64_t context, int64_t sequences) {
  check(model->sizes.vocab_size == target.sizes.vocab_size, "speculate",
        "{} has a vocabulary of {} tokens, the model that it guesses for one of {}", model->sizes.source,
        model->sizes.vocab_size, target.sizes.vocab_size);
  return std::make_unique<ModelDrafter>(std::move(model), cache_dtype, context, sequences);
}

int64_t SpeculationControl::draft_length(int64_t most) {
  if (paused_ > 0) return 0;
  if (plain_seconds_ == 0 && steps_ >= kTrial) return 0;  // a plain step to compare with
  return most;
}

void SpeculationControl::report(int64_t sequences, int64_t drafted, int64_t accepted, double seconds) {
  drafted_ += drafted;
  accepted_ += accepted;
  const auto count = static_cast<double>(sequences);
  if (drafted == 0) {
    update(plain_seconds_, seconds / count);
    if (paused_ > 0) --paused_;
    return;
  }
  ++steps_;
  update(speculative_seconds_, seconds / count);
  update(yield_, 1.0 + static_cast<double>(accepted) / count);
  if (steps_ % kTrial == 0 && plain_seconds_ > 0 && yield_ < cost()) {
    paused_ = kPause;
    yield_ = speculative_seconds_ = 0;
  }
}

}  // namespace lathe
