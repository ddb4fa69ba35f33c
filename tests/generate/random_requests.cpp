#include "tests/generate/random_requests.h"

#include "generate/engine.h"
#include "tensor/random.h"

namespace lathe::test {

std::vector<Request> random_requests(int64_t count, uint64_t seed) {
  std::vector<Request> list;
  for (int64_t i = 0; i < count; ++i) {
    auto number = [&, draw = uint64_t{0}](int64_t below) mutable {
      return static_cast<int64_t>(random_uniform(seed, static_cast<uint64_t>(i), draw++) * static_cast<double>(below));
    };
    Request& r = list.emplace_back();
    r.prompt = random_tokens(number(2) == 0 ? 16 * (1 + number(3)) : 1 + number(60), seed + static_cast<uint64_t>(i));
    r.max_new_tokens = 1 + number(30);
    r.num_sequences = 1 + number(3) * number(2);
    r.logprobs = number(3);
    r.sampling.seed = seed;
    r.sampling.temperature = static_cast<double>(number(3));
    if (number(2) == 0) r.sampling.top_p = 0.9;
    if (number(2) == 0) r.sampling.top_k = 50;
    if (number(3) == 0) r.sampling.repetition_penalty = 1.3;
    if (number(3) == 0) r.sampling.frequency_penalty = 0.5;
  }
  return list;
}

std::string fingerprint(const Completion& c) {
  std::string text = fmt::format("{} {} {}:", c.sequence, name(c.finish_reason), c.prompt_tokens);
  for (const int32_t token : c.tokens) text += fmt::format(" {}", token);
  for (const TokenLogprobs& l : c.logprobs) {
    text += fmt::format(" | {:a}", l.chosen.logprob);
    for (const TokenLogprob& t : l.top) text += fmt::format(" {} {:a}", t.token, t.logprob);
  }
  return text;
}

std::vector<std::string> fingerprints(const GenerationResult& result) {
  std::vector<std::string> list;
  for (const auto& completions : result.completions)
    for (const Completion& c : completions) list.push_back(fingerprint(c));
  return list;
}

std::vector<std::string> one_by_one(const CausalLM& model, const std::vector<Request>& requests, DType cache_dtype) {
  std::vector<std::string> texts;
  for (const Request& r : requests) {
    EngineOptions options;
    options.cache_dtype = cache_dtype;
    options.max_sequences = 1;
    Engine engine(model, nullptr, options);
    for (const std::string& text : fingerprints(generate(engine, {r}))) texts.push_back(text);
  }
  return texts;
}

size_t memory_for(const ModelSizes& config, DType dtype, int64_t pages) {
  size_t bytes = 0;
  for (const LayerGroup& g : layer_groups(config))
    bytes += static_cast<size_t>(pages) * KVCache::page_bytes(config, g, dtype);
  return bytes;
}

}  // namespace lathe::test
