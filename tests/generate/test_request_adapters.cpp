// Adapters by request: rows of several adapters and of none in one batch, each with the bits that it has alone.
#include <tuple>

#include "config/model_config.h"
#include "generate/generate.h"
#include "llm/adapter.h"
#include "tensor/random.h"
#include "tests/catch.h"
#include "tests/generate/tiny_models.h"

using namespace lathe;
using namespace lathe::test;

namespace {

constexpr int64_t kNewTokens = 12;

// Attaches a random adapter to these modules, packed as a loaded one is.
void attach_random(CausalLM& model, const std::vector<std::string>& targets, uint64_t seed) {
  AdapterConfig config;
  config.rank = 4;
  config.targets = targets;
  attach_adapter(model, config, "test");
  initialise_adapter(model, seed);
  for (const NamedParameter& named : adapter_parameters(model)) {
    Parameter& p = *named.parameter;
    for (int64_t i = 0; i < p.shape.elements(); ++i)
      p.value.host<float>()[i] =
          static_cast<float>(0.3 * random_normal(seed, random_stream(named.name), static_cast<uint64_t>(i)));
    if (!p.is_table()) p.prepare_for_inference(Arithmetic::f32);
  }
}

struct Adapted {
  const ModelConfig& config;
  DType weights;
  std::vector<std::string> targets;
  std::unique_ptr<CausalLM> model = make_tiny(config, weights);
  std::vector<std::shared_ptr<const LowRankChanges>> adapters = {nullptr};  // 0: none

  void add(uint64_t seed) {
    attach_random(*model, targets, seed);
    const auto adapter = detach_adapter(*model, "test");
    adapters.emplace_back(adapter, &adapter->changes);
  }
  // A model of the same weights that has this adapter alone.
  std::unique_ptr<CausalLM> alone(uint64_t seed) const {
    auto other = make_tiny(config, weights);
    attach_random(*other, targets, seed);
    return other;
  }
};

Request asked(uint64_t prompt_seed, std::shared_ptr<const LowRankChanges> adapter = nullptr) {
  Request r;
  r.prompt = random_tokens(20 + static_cast<int64_t>(prompt_seed) * 7, prompt_seed);
  r.max_new_tokens = kNewTokens;
  r.ignore_eos = true;
  r.logprobs = 2;
  r.sampling.seed = 5;
  r.adapter = std::move(adapter);
  return r;
}

void check_same(const Completion& got, const Completion& want) {
  CHECK(got.tokens == want.tokens);
  REQUIRE(got.logprobs.size() == want.logprobs.size());
  for (size_t i = 0; i < want.logprobs.size(); ++i)
    CHECK(got.logprobs[i].chosen.logprob == want.logprobs[i].chosen.logprob);
}

Completion answer(Engine& engine, const Request& request) { return generate(engine, {request}).completions[0][0]; }

}  // namespace

TEST_CASE("a request with an adapter has the bits of the model that has it alone, whatever is beside it") {
  const std::vector<std::string> llama = {"q_proj", "v_proj", "gate_proj", "down_proj"};
  const std::tuple<const ModelConfig&, DType, std::vector<std::string>> settings[] = {
      {tiny_llama(), DType::f32, llama},
      {tiny_llama(), DType::q8_0, llama},
      {tiny_windowed_llama(), DType::bf16, {"k_proj", "o_proj", "up_proj"}},
      {tiny_gpt2(), DType::f32, {"c_attn", "c_proj"}},
      {tiny_qwen3_moe(), DType::f32, {"q_proj", "o_proj"}}};
  for (const auto& [config, weights, targets] : settings) {
    Adapted a{config, weights, targets};
    INFO(a.config.architecture);
    for (const uint64_t seed : {1, 2}) a.add(seed);
    std::vector<Completion> want;  // by adapter
    for (const uint64_t seed : {0, 1, 2}) {
      const auto model = seed == 0 ? make_tiny(a.config, a.weights) : a.alone(seed);
      Engine engine(*model, nullptr);
      want.push_back(answer(engine, asked(1)));
    }
    CHECK(want[0].tokens != want[1].tokens);
    CHECK(want[1].tokens != want[2].tokens);
    // Short steps, so that chunks of prompts lie beside decoding sequences; and few pages, so that some are preempted.
    for (const size_t kv_memory : {size_t{0}, size_t{160} << 10}) {
      Engine engine(*a.model, nullptr, {.kv_memory = kv_memory, .max_sequences = 6, .max_batch_tokens = 24});
      for (size_t i = 0; i < 3; ++i) check_same(answer(engine, asked(1, a.adapters[i])), want[i]);
      std::vector<Request> requests;
      const std::vector<size_t> mixed = {1, 1, 0, 2, 1, 0, 2, 2};
      for (const size_t i : mixed) requests.push_back(asked(1, a.adapters[i]));
      for (const size_t i : {0, 1, 2}) requests.push_back(asked(2 + i, a.adapters[i]));
      const auto found = generate(engine, requests).completions;
      for (size_t k = 0; k < mixed.size(); ++k) check_same(found[k][0], want[mixed[k]]);
    }
  }
}

TEST_CASE("pages of one adapter, or of one tenant, are no other's") {
  Adapted a{tiny_llama(), DType::f32, {"k_proj", "v_proj"}};
  a.add(1);
  a.add(2);
  Engine engine(*a.model, nullptr);
  for (const auto& adapter : a.adapters) {
    const Completion cold = answer(engine, asked(3, adapter));
    CHECK(cold.cached_tokens == 0);
    const Completion warm = answer(engine, asked(3, adapter));
    CHECK(warm.cached_tokens == 32);  // of 41: whole pages
    check_same(warm, cold);
  }
  Request other = asked(3, a.adapters[1]);
  other.tenant = 1;
  CHECK(answer(engine, other).cached_tokens == 0);
  CHECK(answer(engine, other).cached_tokens == 32);
}

TEST_CASE("requests with adapters are preempted and take up again") {
  Adapted a{tiny_llama(), DType::f32, {"k_proj", "v_proj"}};
  a.add(1);
  a.add(2);
  Engine roomy(*a.model, nullptr), tight(*a.model, nullptr, {.kv_memory = size_t{80} << 10});
  std::vector<Request> requests;
  for (uint64_t i = 0; i < 6; ++i) {
    requests.push_back(asked(1 + i % 2, a.adapters[i % 3]));
    requests.back().max_new_tokens = 60;
  }
  std::vector<Completion> found(requests.size());
  for (size_t i = 0; i < requests.size(); ++i)
    tight.submit(requests[i], [&found, i](const GenerationEvent& event) {
      if (event.completion) found[i] = *event.completion;
    });
  int64_t preempted = 0;
  while (!tight.idle()) preempted += tight.step().preempted;
  CHECK(preempted > 0);
  for (size_t i = 0; i < requests.size(); ++i) check_same(found[i], answer(roomy, requests[i]));
}

TEST_CASE("an adapter by request that changes what is no linear layer of a block is refused") {
  for (const char* target : {"embed_tokens", "lm_head"}) {
    const auto model = make_tiny(tiny_llama());
    attach_random(*model, {"q_proj", target}, 1);
    CHECK_THROWS_WITH(detach_adapter(*model, "F"), Catch::Matchers::ContainsSubstring(std::string("F changes ")) &&
                                                       Catch::Matchers::ContainsSubstring(target));
    CHECK(model->adapter == nullptr);
    CHECK(model->head().weight->low_rank == nullptr);
  }
}
