// Choosing the next token from a row of logits.
//
//   penalties -> temperature -> top_k -> top_p -> min_p -> draw
//
// The order is that of transformers (generation/utils.py builds its list of processors and warpers so); presence and
// frequency penalties, which it lacks, stand with the repetition penalty, as in vLLM. Definitions are beside the
// fields.
//
// Surprising: the random number of a token is a function of (seed, index of the sequence in its request, position) and
// of nothing else, so a text does not depend on its neighbours in the batch, on threads, on chunking or on preemption.
// Ties go to the lowest id, everywhere.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

namespace lathe {

struct SamplingParameters {
  // Logits are divided by it; 0: greedy, the highest logit after penalties. transformers, TemperatureLogitsWarper.
  double temperature = 0.0;
  // Only the k highest stay; 0: all. With ties exactly k stay. Fan et al. 2018, section 5.4.
  int64_t top_k = 0;
  // Only the most probable tokens stay, as few as reach this probability together, the one that crosses it included;
  // at least one. Probabilities are those of what top_k left. Holtzman et al. 2020, section 3.1.
  double top_p = 1.0;
  // Only tokens with at least this share of the highest probability stay. Nguyen et al. 2024, section 3.
  double min_p = 0.0;
  // Logits of tokens that occur in the prompt or in the answer: divided by it where positive, else multiplied.
  // Keskar et al. 2019, section 4.1, in the form of transformers, RepetitionPenaltyLogitsProcessor.
  double repetition_penalty = 1.0;
  // Subtracted from the logits of tokens that occur in the answer: once; once an occurrence. The OpenAI API's
  // reference.
  double presence_penalty = 0.0;
  double frequency_penalty = 0.0;
  // Chosen at random where absent, once a request.
  std::optional<uint64_t> seed = std::nullopt;

  bool penalises() const { return repetition_penalty != 1.0 || presence_penalty != 0.0 || frequency_penalty != 0.0; }
};

// What a caller chooses of them.
struct SamplingChoices {
  bool greedy = false;  // temperature 0, and no repetition penalty but one that is chosen here
  std::optional<double> temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<int64_t> top_k;
  std::optional<uint64_t> seed;

  // What is not chosen is the model's own.
  SamplingParameters over(SamplingParameters defaults) const;
};

// Throws Error naming the field, its range and the value found.
void validate(const SamplingParameters& parameters);

// A seed for a request that gives none.
uint64_t random_seed();

// Which tokens a sequence has seen, as the penalties need it.
class TokenHistory {
 public:
  void add_prompt(std::span<const int32_t> tokens);
  void add_generated(int32_t token);
  void penalise(std::span<float> logits, const SamplingParameters& parameters) const;

 private:
  std::unordered_map<int32_t, int64_t> occurrences_;  // in the answer, by token; 0 for those of the prompt alone
};

// What the random number of a token is a function of.
struct SampleKey {
  uint64_t seed = 0;
  uint64_t sequence = 0;  // index in its request
  uint64_t position = 0;  // where the sampled token will stand, counted from the first token of the prompt
};

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0.0f;  // natural logarithm
};

// Log-probabilities by the model's own distribution: before penalties, temperature and filters.
struct TokenLogprobs {
  TokenLogprob chosen;
  std::vector<TokenLogprob>
      top;  // the most probable ones, descending, ties by id; the same float where `chosen` is one
};

struct SampledToken {
  int32_t token = 0;
  std::optional<TokenLogprobs> logprobs;
};

// Holds scratch memory, so that sampling does not allocate; not for two threads at once.
class Sampler {
 public:
  // `logits` (V) are overwritten (the penalties are applied in place); -inf marks a token that may not be chosen.
  // `alternatives`: how many of the most probable tokens to report beside the chosen one; absent: no log-probabilities.
  // Throws Error naming the position and the token where a logit is NaN or +inf, or where all are -inf.
  SampledToken sample(std::span<float> logits, const SamplingParameters& parameters, const TokenHistory& history,
                      const SampleKey& key, std::optional<int64_t> alternatives = {});

 private:
  struct Candidate {
    float logit;
    int32_t token;
  };
  static bool before(const Candidate& a, const Candidate& b);

  void take_top(std::span<const float> logits, int64_t k);
  void take_weighty(std::span<const float> logits, float highest, double temperature);
  void keep_top_p(double top_p, float highest, double temperature);
  int32_t draw(std::span<const float> logits, float highest, const SamplingParameters& p, const SampleKey& key);

  std::vector<Candidate> candidates_;
  std::vector<double> weights_;
  std::vector<float> unpenalised_;
};

}  // namespace lathe
