// Choosing a token from each row of logits.
//
//   tokens that may be chosen -> bias -> penalties -> temperature -> top_k -> top_p -> min_p -> draw
//
// The order is that of transformers (generation/utils.py builds its list of processors and warpers so); presence and
// frequency penalties, which it lacks, stand with the repetition penalty, as in vLLM. Ties go to the lowest id,
// everywhere.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernels/device.h"

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
  // Of the random numbers. Chosen at random where absent, once a request.
  std::optional<uint64_t> seed = std::nullopt;

  bool penalises() const { return repetition_penalty != 1.0 || presence_penalty != 0.0 || frequency_penalty != 0.0; }
};

// How often a token occurs in the answer; 0 for those of the prompt alone, kUnseen for those that have a bias alone.
struct TokenCount {
  static constexpr int64_t kUnseen = -1;
  int32_t token = 0;
  int64_t count = 0;
  float bias = 0.0f;  // added to its logit
};

// What a row is sampled by.
struct SamplingRow {
  SamplingParameters parameters = {};
  double random = 0.0;                       // uniform in [0, 1): which of the tokens that stay
  std::span<const TokenCount> history = {};  // each token once
  // A bit for each token, the lowest of the first word first: whether it may be chosen. Empty: each may.
  std::span<const uint32_t> allowed = {};
};

inline constexpr int32_t kNoToken = -1;

// The same without pointers, for a device that cannot read the host's memory: a history and the bits of a row are
// ranges of arrays of all.
struct SeenToken {
  int32_t token = 0;
  float logit = 0.0f;  // the kernel's: what the logit was before the penalties
  int64_t count = 0;
  float bias = 0.0f;
  int32_t unused = 0;
};
struct DeviceSamplingRow {
  double temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty, random;
  int64_t top_k;
  int64_t first_seen, end_seen;  // in SeenTokens
  int64_t first_allowed;         // word of the bits; -1: each token is allowed
};
struct DeviceSamplingRows {
  std::vector<DeviceSamplingRow> rows;
  std::vector<SeenToken> seen;
  std::vector<uint32_t> allowed;
};
inline DeviceSamplingRows for_device(std::span<const SamplingRow> rows) {
  DeviceSamplingRows all;
  for (const SamplingRow& row : rows) {
    const SamplingParameters& p = row.parameters;
    const auto first = std::ssize(all.seen);
    const int64_t first_allowed = row.allowed.empty() ? -1 : std::ssize(all.allowed);
    for (const TokenCount& seen : row.history) all.seen.push_back({seen.token, 0.0f, seen.count, seen.bias});
    all.allowed.insert(all.allowed.end(), row.allowed.begin(), row.allowed.end());
    all.rows.push_back({p.temperature, p.top_p, p.min_p, p.repetition_penalty, p.presence_penalty, p.frequency_penalty,
                        row.random, p.top_k, first, std::ssize(all.seen), first_allowed});
  }
  return all;
}

namespace kernel {

// tokens (R) by logits (R, V) and rows (R), which lie on the host; -inf marks a token that may not be chosen, too.
// kNoToken where a logit is NaN or +inf, or no token may be chosen. Logits are written to, and are as before when it
// returns.
void sample(Cpu, int32_t* tokens, Rows<float> logits, const SamplingRow* rows, int64_t n, int64_t vocabulary);
// Rows (R), their SeenTokens and bits lie on the device. The CPU's choices, but where a sum of weights falls within
// some 1e-7 of a border of top_p, of min_p or of the draw (weights are rounded to 2^-44 of the highest there).
void sample(Cuda, int32_t* tokens, Rows<float> logits, const DeviceSamplingRow* rows, SeenToken* seen,
            const uint32_t* allowed, int64_t n, int64_t vocabulary);

// Natural log-probabilities by logits (R, V) as they are, before penalties, temperature and filters: chosen (R) of
// tokens (R), and the k most probable of each row, descending, ties by id: top_tokens and top (R, k), k at most V. The
// logits are numbers.
void log_probabilities(Cpu, float* chosen, int32_t* top_tokens, float* top, ConstRows<float> logits,
                       const int32_t* tokens, int64_t n, int64_t vocabulary, int64_t k);
void log_probabilities(Cuda, float* chosen, int32_t* top_tokens, float* top, ConstRows<float> logits,
                       const int32_t* tokens, int64_t n, int64_t vocabulary, int64_t k);

}  // namespace kernel
}  // namespace lathe
