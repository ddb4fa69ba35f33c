// Ranks that share a model out compute what one process does, bit for bit: every golden's logits and greedy text,
// adapters, quantised weights; and who has what of the weights and the cache.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "config/model_config.h"
#include "generate/generate.h"
#include "generate/sequence_cache.h"
#include "llm/export.h"
#include "llm/family.h"
#include "llm/load.h"
#include "llm/registry.h"
#include "tests/catch.h"
#include "tests/generate/tiny_models.h"
#include "tests/support.h"
#include "tests/thread_ranks.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;

namespace {

const std::vector<int32_t> kPrompt = {3, 14, 15, 9, 26, 5, 35, 8, 9, 7, 60, 0};

// What one rank says of a model.
struct Answer {
  std::string error = {}, hint = {};
  std::vector<std::string> warnings = {};
  std::vector<float> logits = {};                         // of kPrompt
  std::vector<int32_t> greedy = {};                       // behind them, by the engine of the first rank
  std::vector<std::pair<int64_t, bool>> parameters = {};  // elements; whether shared out
  size_t weight_bytes = 0, page_bytes = 0;                // of one page of the cache
};

// What cannot be loaded is said; what fails behind that ends the test, because the other ranks would wait.
Answer ask(const std::string& model, Communicator& ranks, LoadOptions options) noexcept {
  options.ranks = &ranks;
  Answer a;
  LoadedModel loaded;
  try {
    loaded = load_model(model, options);
  } catch (const Error& e) {
    a.error = e.what(), a.hint = e.hint();
    return a;
  }
  a.warnings = loaded.warnings;
  const Tensor all = all_logits(*loaded.model, kPrompt, DType::f32);
  a.logits.assign(all.host<float>(), all.host<float>() + all.elements());
  a.weight_bytes = weight_bytes(*loaded.model);
  for (const LayerGroup& group : layer_groups(loaded.model->sizes))
    a.page_bytes += KVCache::page_bytes(loaded.model->sizes, group, DType::f32);
  for (const NamedParameter& p : named_parameters(*loaded.model))
    a.parameters.emplace_back(p.parameter->shape.elements(), p.parameter->shard.has_value());
  Engine engine(*loaded.model, nullptr, {.max_sequences = 4, .max_batch_tokens = 5});
  if (engine.follow()) return a;
  Request r;
  r.prompt = kPrompt;
  r.max_new_tokens = 12;
  r.ignore_eos = true;
  a.greedy = generate(engine, {r}).completions[0][0].tokens;
  return a;
}

LoadOptions in_float32() {
  LoadOptions options;
  options.dtype = ComputeDtype::float32;
  return options;
}

std::vector<Answer> ask(const std::string& model, int count, const LoadOptions& options = in_float32()) {
  std::vector<Answer> answers(static_cast<size_t>(count));
  ThreadRanks(count).run(
      [&](Communicator& ranks) { answers[static_cast<size_t>(ranks.rank())] = ask(model, ranks, options); });
  return answers;
}

void check_alike(const std::vector<Answer>& ranks, const Answer& one) {
  for (const Answer& rank : ranks) {
    REQUIRE(rank.error.empty());
    CHECK(rank.logits == one.logits);
  }
  CHECK(ranks[0].greedy == one.greedy);
}

// A Llama of two layers in a .gguf file: 4 query and 2 key-value heads, nets of 768.
std::string write_gguf_llama(const TemporaryDirectory& folder, int64_t head_dim, std::optional<DType> format) {
  ModelConfig c = tiny_llama();
  c.hidden_size = 512;
  c.intermediate_size = 768;
  c.head_dim = c.rotary_dim = head_dim;
  c.initializer_range = 0.05;
  const auto model = family_of(c).make(c);
  initialise(*model, 7);
  std::string path = (folder.path() / "model.gguf").string();
  ExportOptions options;
  options.quantize = format;
  export_model(*model, "", path, options);
  return path;
}

}  // namespace

TEST_CASE("ranks give one process's logits and greedy text, for every golden") {
  for (const std::string& name : tried<std::string>(goldens(), 3)) {
    const std::string folder = golden_path(name);
    const Answer one = ask(folder, Communicator::one(), in_float32());
    REQUIRE(one.error.empty());
    for (const int count : {2, 4}) {
      INFO(name << " on " << count << " ranks");
      const std::vector<Answer> ranks = ask(folder, count);
      if (ranks[0].error.find("key-value head") != std::string::npos) continue;  // fewer of them: below
      check_alike(ranks, one);
      // Every matrix but routers and looked-up tables is shared out, and each element is on one rank.
      for (size_t i = 0; i < one.parameters.size(); ++i) {
        int64_t elements = 0;
        for (const Answer& rank : ranks) elements += rank.parameters[i].first;
        if (ranks[0].parameters[i].second && ranks[0].parameters[i].first < one.parameters[i].first)
          CHECK(elements == one.parameters[i].first);
      }
      size_t page_bytes = 0;
      for (const Answer& rank : ranks) page_bytes += rank.page_bytes;
      CHECK(page_bytes == one.page_bytes);
    }
  }
}

TEST_CASE("ranks share an adapter out with the weights that it changes") {
  const std::filesystem::path goldens = source_dir() / "tests" / "goldens";
  int shared = 0;
  for (const auto& entry : std::filesystem::directory_iterator(goldens / "adapters")) {
    const std::string base = (goldens / entry.path().filename()).string();
    INFO(base);
    LoadOptions options = in_float32();
    options.adapter = entry.path().string();
    const Answer one = ask(base, Communicator::one(), options);
    CHECK(one.logits != ask(base, Communicator::one(), in_float32()).logits);
    const std::vector<Answer> ranks = ask(base, 2, options);
    if (ranks[0].error.find("key-value head") != std::string::npos) continue;
    check_alike(ranks, one);
    ++shared;
  }
  CHECK(shared >= 5);
}

TEST_CASE("a rank holds its part of the weights alone") {
  const TemporaryDirectory folder;
  const std::string model = write_gguf_llama(folder, 128, std::nullopt);
  const Answer one = ask(model, Communicator::one(), in_float32());
  const std::vector<Answer> ranks = ask(model, 2);
  check_alike(ranks, one);
  // What is not shared out: norms, and the table that is only looked up, which stays in the file.
  const size_t table = 257 * 512 * 4, norms = 5 * 512 * 4;
  const double shared = static_cast<double>(one.weight_bytes - table - norms);
  for (const Answer& rank : ranks)
    CHECK(std::abs(static_cast<double>(rank.weight_bytes - table - norms) / shared - 0.5) < 0.01);
}

TEST_CASE("ranks share quantised weights out, stored so or made so, and multiply them by int8") {
  for (const DType format : {DType::q8_0, DType::q4_1, DType::q4_k, DType::q6_k, DType::iq4_xs}) {
    INFO(name(format));
    const TemporaryDirectory folder;
    // Heads of 64: what a rank has of the input of o_proj ends within a block of 256.
    const std::string model = write_gguf_llama(folder, 64, format);
    for (const ComputeDtype dtype : {ComputeDtype::float32, ComputeDtype::automatic}) {
      LoadOptions options;
      options.dtype = dtype;
      const Answer one = ask(model, Communicator::one(), options);
      const std::vector<Answer> ranks = ask(model, 2, options);
      check_alike(ranks, one);
      CHECK(ranks[0].weight_bytes + ranks[1].weight_bytes < one.weight_bytes * 11 / 10 + 257 * 512);
    }
  }
  LoadOptions options;
  options.quantize = DType::q4_0;
  const TemporaryDirectory folder;
  const std::string model = write_gguf_llama(folder, 64, std::nullopt);
  check_alike(ask(model, 2, options), ask(model, Communicator::one(), options));
}

TEST_CASE("the engine of several ranks keeps its promises: batches, sampling, seeds, shared prefixes, speculation") {
  const TemporaryDirectory folder;
  const std::string model = write_gguf_llama(folder, 128, DType::q8_0);
  std::vector<Request> requests;
  for (int i = 0; i < 6; ++i) {
    Request& r = requests.emplace_back();
    r.prompt = random_tokens(40 + 7 * (i % 3), static_cast<uint64_t>(i % 3));
    r.max_new_tokens = 5 + 9 * (i % 2);
    r.num_sequences = 1 + i % 2;
    r.sampling.seed = 5;
    r.sampling.temperature = i % 3 == 0 ? 0.0 : 0.7;
  }
  const auto run = [&](Communicator& ranks, bool speculate) {
    LoadOptions options = in_float32();
    options.ranks = &ranks;
    const LoadedModel loaded = load_model(model, options);
    EngineOptions engine_options{.max_sequences = 4, .max_batch_tokens = 16};
    if (speculate && ranks.is_first()) engine_options.drafter = make_ngram_drafter();
    Engine engine(*loaded.model, nullptr, engine_options);
    std::vector<std::vector<int32_t>> tokens;
    if (engine.follow()) return tokens;
    for (int round = 0; round < 2; ++round)  // the second finds its prompts in the cache
      for (const auto& completions : generate(engine, requests).completions)
        for (const Completion& c : completions) tokens.push_back(c.tokens);
    return tokens;
  };
  const auto one = run(Communicator::one(), false);
  for (const bool speculate : {false, true}) {
    std::vector<std::vector<int32_t>> two;
    ThreadRanks(2).run([&](Communicator& ranks) {
      auto tokens = run(ranks, speculate);
      if (ranks.is_first()) two = std::move(tokens);
    });
    CHECK(two == one);
  }
}

TEST_CASE("what ranks cannot share out is refused with its number, and what to do") {
  const std::string goldens = (source_dir() / "tests/goldens/").string();
  for (const Answer& rank : ask(goldens + "gemma", 2)) {
    CHECK_THAT(rank.error, ContainsSubstring("1 key-value head of") && ContainsSubstring("among 2 processes"));
    CHECK(rank.hint == "start one process");
  }
  for (const Answer& rank : ask(goldens + "llama_untied_gqa", 4)) {
    CHECK_THAT(rank.error, ContainsSubstring("2 key-value heads of") && ContainsSubstring("among 4 processes"));
    CHECK(rank.hint == "start at most 2 processes");
  }
}
