// What a request generates does not depend on its neighbours, on chunks, pages, preemption or sharing: bit for bit.
#include "generate/generate.h"
#include "generate/kv_memory.h"
#include "tensor/threads.h"
#include "tests/catch.h"
#include "tests/generate/random_requests.h"

using namespace lathe;
using namespace lathe::test;

namespace {

void check_preempted(const ModelConfig& config, DType cache_dtype) {
  const auto model = make_tiny(config);
  std::vector<Request> list = random_requests(12, 78);
  for (Request& r : list) r.max_new_tokens += 30;
  EngineOptions options;
  options.context = 128;
  options.max_batch_tokens = 20;
  options.max_sequences = 8;
  options.cache_dtype = cache_dtype;
  options.kv_memory = memory_for(model->sizes, cache_dtype, 8);
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
  for (const ModelConfig& config : tiny_models()) {
    for (const DType cache_dtype : {DType::f32, DType::f16, DType::q8_0}) {
      const bool quantised = cache_dtype != DType::f32;
      const auto model = quantised ? make_tiny(config, DType::q4_0, Arithmetic::int8) : make_tiny(config);
      const std::vector<Request> list = random_requests(12, 77);
      const std::vector<std::string> expected = one_by_one(*model, list, cache_dtype);
      for (const int64_t budget : {7, 33, 512}) {
        EngineOptions options;
        options.cache_dtype = cache_dtype;
        options.max_batch_tokens = budget;
        options.max_sequences = std::min<int64_t>(budget, 8);
        INFO(model->sizes.architecture << ", cache " << name(cache_dtype) << ", budget " << budget);
        Engine engine(*model, nullptr, options);
        CHECK(fingerprints(generate(engine, list)) == expected);
        CHECK(fingerprints(generate(engine, list)) == expected);  // over used pages
      }
    }
  }
}

TEST_CASE("preempted and recomputed = not") {
  for (const ModelConfig& config : tiny_models())
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
  const std::vector<Request> list = random_requests(6, 79);
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
  const auto model = make_tiny(tiny_windowed_llama());  // windows 24 and none
  const ModelSizes& sizes = model->sizes;
  const std::vector<LayerGroup> groups = layer_groups(sizes);
  REQUIRE(groups.size() == 2);
  CHECK(groups[0].window == 24);
  const size_t page = KVCache::page_bytes(sizes, groups[0], DType::f16);
  CHECK(page == 2 * 2 * 16 * 16 * 2);
  // A sequence of 512 tokens in chunks of 32 holds 5 pages of the first and 32 of the second.
  const std::vector<PageGroup> pages = cache_pages(sizes, DType::f16, 3 * 37 * page, 512, 32, 64);
  CHECK(pages[0].pages == 15);
  CHECK(pages[1].pages == 96);
  CHECK(cache_pages(sizes, DType::f16, 1000 * 37 * page, 512, 32, 2)[1].pages == 64);
  CHECK(cache_pages(sizes, DType::f16, 0, 512, 32, 64)[1].pages == 128);
  CHECK(available_memory() > 0);
}
