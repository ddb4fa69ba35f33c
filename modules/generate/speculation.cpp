#include "generate/speculation.h"

#include <algorithm>
#include <map>

#include "generate/block_manager.h"
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
        blocks_(groups(*model_, context, sequences)),
        ropes_(model_->config, context) {
    std::vector<int64_t> pages;
    for (size_t g = 0; g < blocks_.groups(); ++g) pages.push_back(blocks_.pages(g));
    cache_ = std::make_unique<KVCache>(model_->sizes, cache_dtype, pages);
  }

  std::vector<int32_t> draft(const DraftRequest& request, int64_t most) override {
    State& state = states_[request.sequence];
    std::vector<int32_t> tokens(request.tokens.begin(), request.tokens.end());
    // Rejected draft tokens are in the cache; what agrees with the tokens stays.
    const auto parted = std::mismatch(state.fed.begin(), state.fed.end(), tokens.begin(), tokens.end()).first;
    state.fed.resize(std::min(static_cast<size_t>(parted - state.fed.begin()), tokens.size() - 1));
    if (!state.rope) state.rope = ropes_.of(std::ssize(tokens));
    std::vector<int32_t> guesses;
    SampleKey key = request.key;
    while (std::ssize(guesses) < most && std::ssize(tokens) < context_) {
      if (!feed(state, tokens)) break;
      const SamplingRow by{unpenalised(request.sampling), key.random(), {}};
      guesses.push_back(*sample(last_logits_, {&by, 1}).to(Device{}).host<int32_t>());
      if (guesses.back() == kNoToken) throw logits_error(last_logits_, key.position);
      tokens.push_back(guesses.back());
      ++key.position;
    }
    return guesses;
  }

  void forget(uint64_t sequence) override {
    const auto found = states_.find(sequence);
    if (found == states_.end()) return;
    blocks_.release(found->second.pages);
    states_.erase(found);
  }

 private:
  static constexpr int64_t kChunk = 256;
  struct State {
    std::vector<int32_t> fed;  // whose keys and values are in the pages
    SequencePages pages;
    std::shared_ptr<RopeTable> rope;
  };

  static std::vector<PageGroup> groups(const CausalLM& model, int64_t context, int64_t sequences) {
    std::vector<PageGroup> groups;
    for (const LayerGroup& g : layer_groups(model.sizes)) groups.push_back({g.window, sequences * pages_for(context)});
    return groups;
  }
  // The history of penalties is the target's; a draft does without.
  static SamplingParameters unpenalised(SamplingParameters p) {
    p.repetition_penalty = 1.0;
    p.presence_penalty = p.frequency_penalty = 0.0;
    return p;
  }

  // Brings the cache up to all `tokens`, and the logits of the last. False where pages are too few.
  bool feed(State& state, const std::vector<int32_t>& tokens) {
    while (state.fed.size() < tokens.size()) {
      const auto cached = std::ssize(state.fed), count = std::min(kChunk, std::ssize(tokens) - cached);
      std::vector<PageCopy> copies;
      if (!blocks_.reserve(state.pages, cached, cached + count, copies)) return false;
      BatchSequence sequence;
      sequence.tokens = std::span(tokens).subspan(static_cast<size_t>(cached), static_cast<size_t>(count));
      sequence.cached = cached;
      sequence.pages.assign(state.pages.begin(), state.pages.end());
      sequence.rope = state.rope.get();
      sequence.logits_from = count - 1;
      const Batch batch = make_batch({&sequence, 1}, cache_.get());
      last_logits_ = logits(*model_, batch);
      state.fed.insert(state.fed.end(), sequence.tokens.begin(), sequence.tokens.end());
    }
    return true;
  }

  std::shared_ptr<const CausalLM> model_;
  int64_t context_;
  BlockManager blocks_;
  RopeTables ropes_;
  std::unique_ptr<KVCache> cache_;
  std::map<uint64_t, State> states_;
  Tensor last_logits_;  // (1, V)
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
