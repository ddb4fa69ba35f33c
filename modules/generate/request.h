// What a caller asks of the engine, and what it is told.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "autograd/low_rank.h"
#include "generate/pooling.h"
#include "generate/sampler.h"
#include "llm/load.h"
#include "tensor/errors.h"
#include "text/grammar/grammar.h"
#include "text/tokenizer/tokenizer.h"

namespace lathe {

using RequestId = uint64_t;  // counts up in the order of submission

// A request is at fault, and which field of it: "prompt", or an option by its name in RequestOptions.
class RequestError : public Error {
 public:
  RequestError(std::string field, const std::string& message, std::string hint = {})
      : Error(message, std::move(hint)), field_(std::move(field)) {}
  const std::string& field() const { return field_; }

 private:
  std::string field_;
};

struct Request {
  std::vector<int32_t> prompt;  // at least one token
  int64_t max_new_tokens = 128;
  // Independent answers, which share the work of the prompt: at most kMostSequences.
  static constexpr int64_t kMostSequences = 1 << 16;
  int64_t num_sequences = 1;
  SamplingParameters sampling;
  std::vector<int32_t> stop_tokens;  // any of them ends an answer: see stop_tokens() below
  // Added to the logits of these tokens before all else, from -100 to 100. Reported log-probabilities know nothing of
  // it.
  std::vector<std::pair<int32_t, float>> logit_bias;
  // What an answer may be (needs a tokenizer; null: anything). Tokens that it does not allow are left out before all
  // else; stop tokens are allowed where the answer may end, and where nothing else may follow without one it ends.
  std::shared_ptr<const Grammar> grammar;
  bool ignore_eos = false;                // stop_tokens are tokens like any other
  std::vector<std::string> stop_strings;  // need a tokenizer
  // Special tokens are left out of the text, but for those that one of its marks, or of the stop strings, has in it.
  bool skip_special_tokens = false;
  std::vector<std::string> kept_marks = {};
  // Pages of earlier requests with the same beginning are used, and this one's kept for later ones. Not for weights
  // that are written to between requests.
  bool prefix_cache = true;
  // The model changed so, for this request alone: LoadedModel::changes_of; null: the model as it is.
  std::shared_ptr<const LowRankChanges> adapter = {};
  // Pages are shared among requests of one tenant alone.
  int64_t tenant = 0;
  std::optional<int64_t> logprobs;  // alternatives to report a token, 0 for the chosen one alone; absent: none
  // The same for the tokens of the prompt, all of which are then computed: none of its pages come from earlier
  // requests.
  std::optional<int64_t> prompt_logprobs;
  // No answer is wanted, but the prompt's embedding: one completion without tokens. By the mean, all of the prompt is
  // computed, and its pages are kept for nobody.
  std::optional<Pooling> pooling;
};

// stop: a stop token, a stop string, the end of the grammar, or an embedding is whole. length: max_new_tokens or the
// context is reached. error: the model gave no usable logits for this sequence, or the grammar no token; the others go
// on.
enum class FinishReason : uint8_t { stop, length, cancelled, error };
std::string_view name(FinishReason reason);

// One finished sequence.
struct Completion {
  int64_t sequence = 0;             // index in its request
  std::vector<int32_t> tokens;      // the new ones; a stop token that ended it is the last of them
  std::optional<std::string> text;  // of the tokens, without the final stop token and without a stop string; absent
                                    // where the engine has no tokenizer
  FinishReason finish_reason = FinishReason::stop;
  std::string stop_string;              // that ended it; empty: none did
  std::string error;                    // what was wrong, for FinishReason::error
  int64_t prompt_tokens = 0;            // tokens of the prompt
  int64_t cached_tokens = 0;            // of these, how many were in the cache already
  std::vector<TokenLogprobs> logprobs;  // one a token; empty where none were asked for
  // One a token of the prompt but for the first, which follows nothing. Of the request's first sequence alone.
  std::vector<TokenLogprobs> prompt_logprobs;
  std::vector<float> embedding;  // (C), of unit length; empty where the request did not ask for it
  uint64_t seed = 0;             // the request's, or the one that was chosen for it
};

// A new token, the end of a sequence, or both. The texts of a sequence's events, put together, are its completion's.
struct GenerationEvent {
  RequestId request = 0;
  int64_t sequence = 0;          // index in its request
  std::optional<int32_t> token;  // absent where a cancellation ends the sequence
  std::string text;              // whole characters; empty while they are incomplete or may begin a stop string
  std::optional<TokenLogprobs> logprobs;
  std::vector<TokenLogprobs> prompt_logprobs;  // on the first event of a sequence that has them
  std::optional<Completion> completion;        // on the sequence's last event
};
using OnEvent = std::function<void(const GenerationEvent&)>;

// What ends an answer of this model: the union of what generation_config.json (or GGUF metadata) and config.json name
// as eos and of the tokenizer's end-of-turn tokens; ascending. Files name one of several far too often to trust any.
std::vector<int32_t> stop_tokens(const LoadedModel& loaded, const Tokenizer* tokenizer);

// The model's own defaults. Greedy where the file says `do_sample: false` or names no temperature at all; a temperature
// of 1 where it says `do_sample: true` alone. Filters that it does not name are off.
SamplingParameters sampling_defaults(const GenerationDefaults& defaults);

}  // namespace lathe
