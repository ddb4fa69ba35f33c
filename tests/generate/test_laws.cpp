// A token's logits are the same bits however they are computed: for every instruction set of this machine, weights,
// arithmetic and cache of every dtype, each form of model, and the architecture of every golden.
#include <cmath>
#include <filesystem>
#include <numeric>
#include <span>

#include "config/model_config.h"
#include "generate/sequence_cache.h"
#include "llm/registry.h"
#include "tensor/cpu_features.h"
#include "tensor/random.h"
#include "tensor/threads.h"
#include "tests/catch.h"
#include "tests/generate/tiny_models.h"
#include "tests/support.h"

using namespace lathe;
using namespace lathe::test;

namespace {

// Crosses the attention kernel's segment border at 256, and ends within a page.
constexpr int64_t kTokens = 270;
constexpr int64_t kPages = 40;

// Puts back what a test has changed.
struct Surroundings {
  CpuIsa isa = cpu_isa();
  int threads = thread_team().size();
  ~Surroundings() {
    set_cpu_isa(isa);
    set_threads(threads);
  }
};

std::vector<int32_t> counting_pages(int32_t first, int64_t count) {
  std::vector<int32_t> pages(static_cast<size_t>(count));
  std::iota(pages.begin(), pages.end(), first);
  return pages;
}

// The same pages out of order.
std::vector<int32_t> permuted_pages(int32_t first, int64_t count) {
  std::vector<int32_t> pages = counting_pages(first, count);
  for (size_t i = pages.size(); i > 1; --i)
    std::swap(pages[i - 1], pages[static_cast<size_t>(random_uniform(3, 0, i) * static_cast<double>(i))]);
  return pages;
}

// Chunks of `first` tokens, then of `then` ones.
std::vector<float> alone(const CausalLM& model, DType cache_dtype, const std::vector<int32_t>& tokens, int64_t first,
                         int64_t then, const std::vector<int32_t>& pages) {
  KVCache cache = poisoned_cache(model, cache_dtype, kPages);
  HandFed s{tokens, pages, 0, {}};
  for (int64_t chunk = first; s.cached < std::ssize(tokens); chunk = then)
    feed(model, cache, {&s}, {std::min(chunk, std::ssize(tokens) - s.cached)});
  return s.logits;
}

// In the middle between two strangers of other lengths that start and end at other times.
std::vector<float> with_strangers(const CausalLM& model, DType cache_dtype, const std::vector<int32_t>& tokens) {
  KVCache cache = poisoned_cache(model, cache_dtype, kPages);
  HandFed before{random_tokens(61, 21), permuted_pages(0, 4), 0, {}};
  HandFed s{tokens, permuted_pages(4, 17), 0, {}};
  HandFed after{random_tokens(290, 22), permuted_pages(21, 19), 0, {}};
  const std::vector<HandFed*> all = {&before, &s, &after};
  constexpr int64_t kChunks[][3] = {{1, 120, 0}, {30, 1, 258}, {1, 50, 1}, {1, 88, 3}, {1, 1, 1}};
  for (size_t step = 0; s.cached < std::ssize(tokens); ++step) {
    std::vector<int64_t> counts;
    for (size_t i = 0; i < all.size(); ++i)
      counts.push_back(std::min(kChunks[std::min<size_t>(step, 4)][i], std::ssize(all[i]->tokens) - all[i]->cached));
    feed(model, cache, all, counts);
  }
  return s.logits;
}

constexpr Setting kSettings[] = {
    {DType::f32, Arithmetic::f32, DType::f32},    {DType::f32, Arithmetic::f32, DType::f16},
    {DType::f32, Arithmetic::f32, DType::bf16},   {DType::bf16, Arithmetic::bf16, DType::bf16},
    {DType::f16, Arithmetic::f32, DType::f16},    {DType::q8_0, Arithmetic::int8, DType::f16},
    {DType::q4_0, Arithmetic::int8, DType::f16},  {DType::q4_1, Arithmetic::int8, DType::f16},
    {DType::q4_0, Arithmetic::f32, DType::f32},   {DType::q4_1, Arithmetic::bf16, DType::f32},
    {DType::f32, Arithmetic::f32, DType::q8_0},   {DType::q4_1, Arithmetic::int8, DType::q8_0},
    {DType::q4_1, Arithmetic::int8, DType::bf16}, {DType::q4_0, Arithmetic::int16, DType::f16},
    {DType::q8_0, Arithmetic::int16, DType::f32},
};

// The formats that a row of 256 columns can have besides. What is only read (q2_k, q3_k) obeys the same laws in
// tests/kernels.
constexpr Setting kWideSettings[] = {
    {DType::q5_0, Arithmetic::int8, DType::f16},   {DType::q5_1, Arithmetic::int8, DType::f16},
    {DType::q4_k, Arithmetic::int8, DType::f16},   {DType::q5_k, Arithmetic::int8, DType::f16},
    {DType::q6_k, Arithmetic::int8, DType::f16},   {DType::q4_k, Arithmetic::f32, DType::f32},
    {DType::f16, Arithmetic::f32, DType::q8_0},    {DType::q4_k, Arithmetic::int8, DType::q8_0},
    {DType::iq4_nl, Arithmetic::int8, DType::f16}, {DType::iq4_xs, Arithmetic::int8, DType::f16},
    {DType::iq4_xs, Arithmetic::bf16, DType::f16}, {DType::q4_k, Arithmetic::int16, DType::f16},
    {DType::q6_k, Arithmetic::int16, DType::bf16},
};

// One of each arithmetic, for families that differ from Llama above the kernels.
constexpr Setting kOneOfEach[] = {
    {DType::f32, Arithmetic::f32, DType::f32},
    {DType::bf16, Arithmetic::bf16, DType::bf16},
    {DType::q4_1, Arithmetic::int8, DType::q8_0},
    {DType::q4_1, Arithmetic::int16, DType::f16},
};

void check_laws(const ModelConfig& config, const Setting& setting) {
  const auto model = make_tiny(config, setting.weights, setting.arithmetic);
  const DType cache_dtype = setting.cache;
  const std::vector<int32_t> tokens = random_tokens(kTokens, 20), contiguous = counting_pages(0, 17);
  set_threads(1);
  const std::vector<float> whole = alone(*model, cache_dtype, tokens, kTokens, 1, contiguous);
  REQUIRE(std::ssize(whole) == kTokens * model->sizes.vocab_size);
  CHECK(std::all_of(whole.begin(), whole.end(), [](float x) { return std::isfinite(x); }));
  CHECK(alone(*model, cache_dtype, tokens, 240, 1, contiguous) == whole);
  CHECK(alone(*model, cache_dtype, tokens, 16, 16, contiguous) == whole);
  CHECK(alone(*model, cache_dtype, tokens, 37, 101, permuted_pages(0, kPages)) == whole);
  set_threads(2);
  CHECK(alone(*model, cache_dtype, tokens, kTokens, 1, contiguous) == whole);
  CHECK(alone(*model, cache_dtype, tokens, 256, 1, permuted_pages(11, 17)) == whole);
  CHECK(with_strangers(*model, cache_dtype, tokens) == whole);
}

void check_all_settings(const ModelConfig& config, std::span<const Setting> settings) {
  const Surroundings restored;
  for (const CpuIsa isa : tested_isas()) {
    if (kCrossBuilt && isa == CpuIsa::portable) continue;  // its laws are seen at full speed elsewhere
    set_cpu_isa(isa);
    for (const Setting& setting : settings) {
      INFO(name(isa) << ", weights " << name(setting.weights) << ", arithmetic " << static_cast<int>(setting.arithmetic)
                     << ", cache " << name(setting.cache));
      check_laws(config, setting);
    }
  }
}

}  // namespace

TEST_CASE("Llama: whole = chunked = decoded = batched, any pages, any threads") {
  check_all_settings(tiny_llama(), tried<Setting>(kSettings, 3));
}

TEST_CASE("K formats: whole = chunked = decoded = batched, any pages, any threads") {
  check_all_settings(tiny_wide_llama(), tried<Setting>(kWideSettings, 3));
}

TEST_CASE("GPT-2: whole = chunked = decoded = batched, any pages, any threads") {
  check_all_settings(tiny_gpt2(), tried<Setting>(kSettings, 4));
}

TEST_CASE("sliding window: whole = chunked = decoded = batched, any pages, any threads") {
  check_all_settings(tiny_windowed_llama(), tried<Setting>(kSettings, 4));
}

TEST_CASE("Qwen3: whole = chunked = decoded = batched, any pages, any threads") {
  check_all_settings(tiny_qwen3(), tried<Setting>(kOneOfEach, 2, kCrossBuilt));
}

TEST_CASE("experts: whole = chunked = decoded = batched, any pages, any threads") {
  check_all_settings(tiny_qwen3_moe(), tried<Setting>(kOneOfEach, 2, kCrossBuilt));
}

TEST_CASE("parallel residual: whole = chunked = decoded = batched, any pages, any threads") {
  check_all_settings(tiny_gpt_neox(), tried<Setting>(kOneOfEach, 2, kCrossBuilt));
}

TEST_CASE("ALiBi: whole = chunked = decoded = batched, any pages, any threads") {
  check_all_settings(tiny_mpt(), tried<Setting>(kOneOfEach, 2, kCrossBuilt));
}

TEST_CASE("Gemma 3: whole = chunked = decoded = batched, any pages, any threads") {
  check_all_settings(tiny_gemma3(), tried<Setting>(kOneOfEach, 2, kCrossBuilt));
}

TEST_CASE("log-n attention: whole = chunked = decoded = batched, any pages, any threads") {
  check_all_settings(tiny_qwen1(), tried<Setting>(kOneOfEach, 2, kCrossBuilt));
}

// A new family's golden brings it under the laws; its own vocabulary and context are too small for these tokens. Rows
// of 32 and heads of 8 have no block formats.
TEST_CASE("every golden's architecture: whole = chunked = decoded = batched, any pages, any threads") {
  const Setting settings[] = {{DType::f32, Arithmetic::f32, DType::f32}, {DType::bf16, Arithmetic::bf16, DType::bf16}};
  const Surroundings restored;
  set_cpu_isa(available_isas().back());
  for (const std::string& golden : tried<std::string>(goldens(), kCrossBuilt ? 4 : 2)) {
    const std::filesystem::path file = source_dir() / "tests" / "goldens" / golden / "config.json";
    ModelConfig config = read_config_json(file.string(), family_configs());
    config.vocab_size = 257;
    config.max_position_embeddings = 512;
    config.initializer_range = 0.3;
    for (const Setting& setting : settings) {
      INFO(golden << ", weights " << name(setting.weights));
      check_laws(config, setting);
    }
  }
}

TEST_CASE("decoding all tokens one by one is the whole prefill") {
  for (const ModelConfig& config : tiny_models()) {
    const auto model = make_tiny(config);
    const std::vector<int32_t> tokens = random_tokens(40, 4), pages = counting_pages(0, 3);
    CHECK(alone(*model, DType::f32, tokens, 1, 1, pages) == alone(*model, DType::f32, tokens, 40, 1, pages));
  }
}

TEST_CASE("all_logits gives what a cache fed by hand gives") {
  const auto model = make_tiny(tiny_llama());
  const std::vector<int32_t> tokens = random_tokens(40, 5);
  const Tensor all = all_logits(*model, tokens, DType::f16);
  const std::vector<float> fed = alone(*model, DType::f16, tokens, 7, 3, counting_pages(0, 3));
  CHECK(std::vector<float>(all.data<float>(), all.data<float>() + all.elements()) == fed);
}
