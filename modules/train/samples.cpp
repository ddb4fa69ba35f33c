#include "train/samples.h"

#include "autograd/tape.h"
#include "generate/generate.h"

namespace lathe {

std::vector<Sample> write_samples(const CausalLM& model, const std::shared_ptr<const Tokenizer>& tokenizer,
                                  const Dataset& data, int64_t count, int64_t tokens, int64_t context) {
  constexpr size_t kPromptTokens = 8;
  constexpr double kTemperature = 0.8;
  const Tape::Pause pause;
  const int64_t step = std::max<int64_t>(1, data.rows_per_epoch() / count);
  std::vector<Request> requests;
  for (int64_t i = 0; i < count; ++i) {
    const TrainingRows row = data.rows(i * step, 1);
    const auto first = static_cast<size_t>(row.seq_start[1]);  // of the row's first document
    Request request;
    request.prompt.assign(row.tokens.begin(),
                          row.tokens.begin() + static_cast<int64_t>(std::min(first, kPromptTokens)));
    request.max_new_tokens = tokens;
    request.sampling.temperature = kTemperature;
    request.sampling.seed = static_cast<uint64_t>(i);
    if (const auto eos = tokenizer->eos()) request.stop_tokens = {*eos};
    requests.push_back(std::move(request));
  }
  Engine engine(model, tokenizer, {.max_sequences = count, .prefix_cache = false, .context = context});
  std::vector<Sample> samples;
  const GenerationResult result = generate(engine, requests);
  for (size_t i = 0; i < requests.size(); ++i)
    samples.push_back({tokenizer->decode(requests[i].prompt), result.completions[i][0].text.value_or("")});
  return samples;
}

}  // namespace lathe
