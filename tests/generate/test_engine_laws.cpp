// What a request generates does not depend on its neighbours, on chunks, pages, preemption or sharing: bit for bit.
#include "generate/generate.h"
#include "generate/kv_memory.h"
#include "tensor/random.h"
#include "tensor/threads.h"
#include "tests/catch.h"
#include "tests/generate/tiny_models.h"

using namespace lathe;
using namespace lathe::test;

namespace {

// Greedy and sampled requests of many lengths, multiples of the page among them.
std::vector<Request> requests(int64_t count, uint64_t seed) {
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

// Everything that is promised to be the same.
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

// One sequence after another, each in an engine with room for all of it: nothing is shared, chunked or preempted.
std::vector<std::string> one_by_one(const CausalLM& model, const std::vector<Request>& list, DType cache_dtype) {
  std::vector<std::string> texts;
  for (const Request& r : list) {
    EngineOptions options;
    options.cache_dtype = cache_dtype;
    options.max_sequences = 1;
    Engine engine(model, nullptr, options);
    for (const std::string& text : fingerprints(generate(engine, {r}))) texts.push_back(text);
  }
  return texts;
}

// So many pages in every group.
size_t memory_for(const ModelConfig& config, DType dtype, int64_t pages) {
  size_t bytes = 0;
  for (const LayerGroup& g : layer_groups(config))
    bytes += static_cast<size_t>(pages) * KVCache::page_bytes(config, g, dtype);
  return bytes;
}

void check_preempted(const ModelConfig& config, DType cache_dtype) {
  const auto model = make_tiny(config);
  std::vector<Request> list = requests(12, 78);
  for (Request& r : list) r.max_new_tokens += 30;
  EngineOptions options;
  options.context = 128;
  options.max_batch_tokens = 20;
  options.max_sequences = 8;
  options.cache_dtype = cache_dtype;
  options.kv_memory = memory_for(config, cache_dtype, 8);
  Engine engine(*model, nullptr, options);
  std::vector<std::vector<Completion>> completions(list.size());
  for (size_t i = 0; i < list.size(); ++i) {
    completions[i].resize(static_cast<size_t>(list[i].num_sequences));
    engine.submit(list[i], [&completions, i](const GenerationEvent& e) {
      if (e.completion) completions[i][static_cast<size_t>(e.sequence)] = *e.completion;
    });
  }
  int64_t preempted = 0;
  while (!engine.idle()) preempted += engine.step().preempted;
  CHECK(preempted > 0);
  CHECK(fingerprints({completions, {}}) == one_by_one(*model, list, cache_dtype));
}

}  // namespace

TEST_CASE("batched, chunked, preempted and shared = alone") {
  for (const ModelConfig& config : {tiny_llama(), tiny_windowed_llama(), tiny_gpt2()}) {
    for (const DType cache_dtype : {DType::f32, DType::f16, DType::q8_0}) {
      const bool quantised = cache_dtype != DType::f32;
      const auto model = quantised ? make_tiny(config, DType::q4_0, Arithmetic::int8) : make_tiny(config);
      const std::vector<Request> list = requests(12, 77);
      const std::vector<std::string> expected = one_by_one(*model, list, cache_dtype);
      for (const int64_t budget : {7, 33, 512}) {
        EngineOptions options;
        options.cache_dtype = cache_dtype;
        options.max_batch_tokens = budget;
        options.max_sequences = std::min<int64_t>(budget, 8);
        INFO(config.architecture << ", cache " << name(cache_dtype) << ", budget " << budget);
        Engine engine(*model, nullptr, options);
        CHECK(fingerprints(generate(engine, list)) == expected);
        CHECK(fingerprints(generate(engine, list)) == expected);  // over used pages
      }
    }
  }
}

TEST_CASE("preempted and recomputed = not") {
  for (const ModelConfig& config : {tiny_llama(), tiny_windowed_llama(), tiny_gpt2()})
    for (const DType cache_dtype : {DType::f32, DType::q8_0}) check_preempted(config, cache_dtype);
}

TEST_CASE("the sequences of a request share its prompt and differ by their index alone") {
  const auto model = make_tiny(tiny_llama());
  for (const int64_t length : {1, 16, 32, 37}) {
    Request r;
    r.prompt = random_tokens(length, 6);
    r.max_new_tokens = 20;
    r.num_sequences = 3;
    r.sampling.temperature = 1.0;
    r.sampling.seed = 4;
    Engine engine(*model, nullptr);
    const std::vector<Completion> shared = generate(engine, {r}).completions[0];
    CHECK(shared[0].cached_tokens == 0);
    CHECK(shared[1].cached_tokens == length - 1);
    CHECK(shared[2].cached_tokens == length - 1);
    CHECK(shared[0].tokens != shared[1].tokens);
    CHECK(shared[1].tokens != shared[2].tokens);
    r.num_sequences = 1;
    CHECK(generate(engine, {r}).completions[0][0].tokens == shared[0].tokens);
  }
}

TEST_CASE("one thread = two") {
  const int threads = thread_team().size();
  const auto model = make_tiny(tiny_llama(), DType::q8_0, Arithmetic::int8);
  const std::vector<Request> list = requests(6, 79);
  std::vector<std::vector<std::string>> texts;
  for (const int count : {1, 2}) {
    set_threads(count);
    Engine engine(*model, nullptr);
    texts.push_back(fingerprints(generate(engine, list)));
  }
  set_threads(threads);
  CHECK(texts[0] == texts[1]);
}

TEST_CASE("the cache is shared out by what a sequence needs of each group") {
  const ModelConfig config = tiny_windowed_llama();  // windows 24 and none
  const std::vector<LayerGroup> groups = layer_groups(config);
  REQUIRE(groups.size() == 2);
  CHECK(groups[0].window == 24);
  const size_t page = KVCache::page_bytes(config, groups[0], DType::f16);
  CHECK(page == 2 * 2 * 16 * 16 * 2);
  // A sequence of 512 tokens in chunks of 32 holds 5 pages of the first and 32 of the second.
  const std::vector<PageGroup> pages = cache_pages(config, DType::f16, 3 * 37 * page, 512, 32, 64);
  CHECK(pages[0].pages == 15);
  CHECK(pages[1].pages == 96);
  CHECK(cache_pages(config, DType::f16, 1000 * 37 * page, 512, 32, 2)[1].pages == 64);
  CHECK(cache_pages(config, DType::f16, 0, 512, 32, 64)[1].pages == 128);
  CHECK(available_memory() > 0);
}
