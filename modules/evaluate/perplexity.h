// Perplexity of a text: exp of the mean negative log-likelihood of its tokens; and how far one model is from another.
//
// The figure depends on which tokens are counted and on how much context each one has. Two protocols are in use, and
// theirs are not comparable:
//   transformers  windows of `context` ids every `stride` ids; a window counts those of its tokens that no window
//                 before it has counted, but for its own first one, which nothing predicts. stride = context: disjoint
//                 windows. The last window may be shorter. (transformers' page "Perplexity of fixed-length models")
//   llama.cpp     disjoint whole windows; only the tokens of the second half but its first are counted; the first
//                 token is replaced by BOS where the vocabulary adds one. (llama.cpp, tools/perplexity)
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "llm/causal_lm.h"

namespace lathe {

enum class PerplexityProtocol : uint8_t { transformers, llama_cpp };

struct PerplexityOptions {
  PerplexityProtocol protocol = PerplexityProtocol::transformers;
  int64_t context = 512, stride = 512;
  int64_t limit = 0;           // windows; 0: all
  std::optional<int32_t> bos;  // that replaces a window's first token, for llama.cpp's protocol
};

// Ids [begin, end) are fed; those of [first_counted, end) are counted.
struct TextWindow {
  int64_t begin, end, first_counted;
};
// All windows of a text of `tokens` ids, the limit aside. Throws Error where not one token could be counted, UsageError
// where context or stride make no sense.
std::vector<TextWindow> text_windows(int64_t tokens, const PerplexityOptions& options);

struct ScoredModel {
  const CausalLM* model = nullptr;
  DType cache_dtype = DType::f32;
};

// A mean and its standard error, s / sqrt(n) with the sample deviation s: the tokens taken for independent.
struct Estimate {
  double value = 0.0, standard_error = 0.0;
};

struct PerplexityReport {
  int64_t windows = 0, windows_in_text = 0, tokens_counted = 0;
  Estimate negative_log_likelihood;  // mean over the tokens, in nats
  // exp of the mean; its error is the mean's times the value (the delta method).
  Estimate perplexity;
  bool interrupted = false;

  struct Comparison {     // with a reference, over the same tokens
    Estimate perplexity;  // of the reference
    Estimate divergence;  // KL(reference || model) by token, in nats
    double median = 0.0, percentile_90 = 0.0, percentile_99 = 0.0, maximum = 0.0;  // of the divergence
    Estimate same_top;  // share of the tokens whose most probable token is the same
  };
  std::optional<Comparison> comparison;
};

// Called after every pass with the report so far (without a comparison); false ends the measurement there.
using PerplexityProgress = std::function<bool(const PerplexityReport&)>;

// Throws Error where the two vocabularies differ in size, or an id is outside them.
PerplexityReport measure_perplexity(const ScoredModel& model, const std::optional<ScoredModel>& reference,
                                    std::span<const int32_t> ids, const PerplexityOptions& options,
                                    const PerplexityProgress& progress = {});

}  // namespace lathe
