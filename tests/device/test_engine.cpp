// The engine over a model on an emulated device: the CPU's text, the same bits however a request is served and whether
// its steps are graphs or not, and no allocation once it is warm.
#include "autograd/device_image.h"
#include "config/model_config.h"
#include "generate/engine.h"
#include "generate/sequence_cache.h"
#include "generate/speculation.h"
#include "kernels/device_image.h"
#include "kernels/gemm.h"
#include "llm/load.h"
#include "tensor/cuda.h"
#include "tensor/stream.h"
#include "tests/catch.h"
#include "tests/device/device.h"
#include "tests/generate/random_requests.h"
#include "tests/support.h"
#include "tests/thread_ranks.h"

using namespace lathe;
using namespace lathe::test;

namespace {

[[maybe_unused]] const bool kHasDevice = needs_cuda_device("test_device");

// The emulator takes a hundred times the CPU's time: prompts and answers of a few tokens.
std::vector<Request> short_requests(int64_t count, uint64_t seed) {
  std::vector<Request> list = random_requests(count, seed);
  for (Request& r : list) {
    r.prompt.resize(std::min<size_t>(r.prompt.size(), 20));
    r.max_new_tokens = std::min<int64_t>(r.max_new_tokens, 6);
  }
  return list;
}

std::vector<std::string> served_together(const CausalLM& model, const std::vector<Request>& requests, DType cache,
                                         bool graphs) {
  EngineOptions options;
  options.cache_dtype = cache;
  options.context = 64;
  options.graphs = graphs;
  Engine engine(model, nullptr, options);
  return fingerprints(generate(engine, requests));
}

}  // namespace

TEST_CASE("an engine on a device answers as one on the CPU, for every form of model") {
  for (const ModelConfig& config : tiny_models()) {
    const auto on_cpu = make_tiny(config), on_cuda = make_tiny(config, DType::f32, Arithmetic::f32, kCudaDevice);
    Request request;
    request.prompt = random_tokens(19, 5);
    request.max_new_tokens = 8;
    request.logprobs = 0;
    EngineOptions options;
    options.context = 64;
    std::vector<Completion> answers;
    for (const CausalLM* model : {on_cpu.get(), on_cuda.get()}) {
      Engine engine(*model, nullptr, options);
      answers.push_back(generate(engine, {request}).completions[0][0]);
    }
    INFO(config.architecture);
    CHECK(answers[0].tokens == answers[1].tokens);
    // A logit is a sum of some hundred products in another order: some tens of roundings of numbers of the order of 1.
    for (size_t i = 0; i < answers[0].logprobs.size(); ++i)
      CHECK(answers[0].logprobs[i].chosen.logprob == Catch::Approx(answers[1].logprobs[i].chosen.logprob).margin(2e-5));
  }
}

TEST_CASE("what a request generates on a device is what it generates alone, with graphs and without") {
  for (const auto& [config, cache] :
       {std::pair(&tiny_llama(), DType::f32), std::pair(&tiny_windowed_llama(), DType::bf16),
        std::pair(&tiny_qwen3_moe(), DType::q8_0), std::pair(&tiny_mpt(), DType::f16)}) {
    INFO(config->architecture << ", cache " << name(cache));
    const auto model = make_tiny(*config, DType::f32, Arithmetic::f32, kCudaDevice);
    const std::vector<Request> requests = short_requests(5, 3);
    const std::vector<std::string> alone = one_by_one(*model, requests, cache);
    CHECK(served_together(*model, requests, cache, true) == alone);
    CHECK(served_together(*model, requests, cache, false) == alone);
  }
}

TEST_CASE("decoding steps are recorded once a bucket, and neither record nor allocate afterwards") {
  const auto model = make_tiny(tiny_llama(), DType::f32, Arithmetic::f32, kCudaDevice);
  EngineOptions options;
  options.context = 128;
  options.prefix_cache = false;
  Engine engine(*model, nullptr, options);
  const std::vector<Request> requests = short_requests(4, 11);
  const std::vector<std::string> first = fingerprints(generate(engine, requests));
  const int64_t recorded = Graph::counts().recorded, replayed = Graph::counts().replayed;
  const cuda::Memory memory = cuda::memory(kCudaDevice);
  for (int round = 0; round < 3; ++round) CHECK(fingerprints(generate(engine, requests)) == first);
  CHECK(Graph::counts().recorded == recorded);
  CHECK(Graph::counts().replayed > replayed);
  CHECK(cuda::memory(kCudaDevice).free == memory.free);
  CHECK(cuda::memory(kCudaDevice).allocations == memory.allocations);
}

TEST_CASE("two devices that share a model out give one's logits, bit for bit") {
  if (Stream::devices() < 2) return skip("needs two devices");
  for (const char* golden : {"llama_untied_gqa", "gpt2", "mixtral"}) {
    const std::vector<int32_t> prompt = random_tokens(12, 9);
    const auto logits_of = [&](Communicator& ranks) {
      LoadOptions options;
      options.dtype = ComputeDtype::float32;
      options.device = {Device::Kind::cuda, ranks.rank()};
      options.ranks = &ranks;
      const LoadedModel loaded = load_model(golden_path(golden), options);
      std::vector<int32_t> tokens;
      for (const int32_t t : prompt) tokens.push_back(t % static_cast<int32_t>(loaded.model->sizes.vocab_size));
      const Tensor all = all_logits(*loaded.model, tokens, DType::f32);
      return std::vector<float>(all.host<float>(), all.host<float>() + all.elements());
    };
    const std::vector<float> one = logits_of(Communicator::one());
    std::vector<std::vector<float>> shared(2);
    ThreadRanks(2).run([&](Communicator& ranks) { shared[static_cast<size_t>(ranks.rank())] = logits_of(ranks); });
    INFO(golden);
    CHECK(shared[0] == one);
    CHECK(shared[1] == one);
  }
}

TEST_CASE("a device is described by its name and architecture, and says what its products are") {
  CHECK(describe_device(kCudaDevice).starts_with("cuda:0, " + Stream::device_name(kCudaDevice) + ", sm_"));
  CHECK(kernel::device_image(Cuda{}).was_compiled_by_driver() == false);
  CHECK(kernel::gemm_multiplies_bf16(Cuda{}));
}

TEST_CASE(
    "graphs keep their memory when another engine of the device is gone and when the pool gives back what it has") {
  const auto model = make_tiny(tiny_llama(), DType::f32, Arithmetic::f32, kCudaDevice);
  EngineOptions options;
  options.context = 64;
  options.prefix_cache = false;
  Engine engine(*model, nullptr, options);
  const std::vector<Request> requests = short_requests(3, 17);
  const std::vector<std::string> first = fingerprints(generate(engine, requests));
  {
    Engine other(*model, nullptr, options);
    CHECK(fingerprints(generate(other, requests)) == first);
  }
  cuda::trim(kCudaDevice);
  const auto taken = Tensor::zeros({1 << 16}, DType::f32, kCudaDevice);  // what was given back is written over
  CHECK(fingerprints(generate(engine, requests)) == first);
}

TEST_CASE("work that waits for the device, or asks for memory that its first run did not, is not recorded") {
  const Stream recording(kCudaDevice);
  const Tensor x = Tensor::zeros({4}, DType::f32, kCudaDevice);
  CHECK_THROWS_AS(Graph(recording, [&] { x.to(Device{}); }), NotRecordable);
  Tensor kept;
  CHECK_THROWS_WITH(Graph(recording, [&] { kept = Tensor::zeros({64}, DType::f32, kCudaDevice); }),
                    Catch::Matchers::ContainsSubstring("more than what ran before"));
  const Graph graph(recording, [&] { x.copy_from(Tensor::zeros({4}, DType::f32, kCudaDevice)); });
  graph.replay();
  CHECK(x.to(Device{}).host<float>()[3] == 0.0f);
}

TEST_CASE("a mixture whose experts an adapter changes decodes without graphs, as on the CPU") {
  std::vector<std::vector<int32_t>> answers;
  for (const Device device : {Device{}, kCudaDevice}) {
    LoadOptions load;
    load.dtype = ComputeDtype::float32;
    load.device = device;
    load.adapter = golden_path("adapters/mixtral");
    const LoadedModel loaded = load_model(golden_path("mixtral"), load);
    Engine engine(*loaded.model, nullptr, {});
    Request request;
    request.prompt = {3, 14, 15, 9, 26, 5};
    request.max_new_tokens = 5;
    answers.push_back(generate(engine, {request}).completions[0][0].tokens);
  }
  CHECK(answers[0] == answers[1]);
}

// Some ten minutes of emulation: `build/test_device "[long]"`.
TEST_CASE("ten thousand random requests leave the device's memory as it was", "[.][long]") {
  ModelConfig config = tiny_llama();
  config.hidden_size = 16, config.intermediate_size = 16, config.num_hidden_layers = 1;
  config.num_attention_heads = 2, config.num_key_value_heads = 1, config.head_dim = config.rotary_dim = 8;
  const std::shared_ptr<const CausalLM> model = make_tiny(config, DType::f32, Arithmetic::f32, kCudaDevice);
  EngineOptions options;
  options.context = 48;
  options.cache_dtype = DType::q8_0;
  options.max_sequences = 8;
  options.kv_memory = memory_for(model->sizes, options.cache_dtype, 12);  // some are preempted
  options.drafter = make_ngram_drafter();
  Engine engine(*model, nullptr, options);
  const auto serve = [&](int64_t requests, uint64_t seed) {
    for (int64_t done = 0; done < requests; done += 20) {
      std::vector<Request> list = random_requests(20, seed + static_cast<uint64_t>(done));
      for (Request& r : list) {
        r.prompt.resize(std::min<size_t>(r.prompt.size(), 12));
        r.max_new_tokens = std::min<int64_t>(r.max_new_tokens, 4);
        engine.submit(r, [](const GenerationEvent&) {});
      }
      while (!engine.idle()) engine.step();
    }
  };
  serve(2000, 1);  // every bucket is met
  const int64_t recorded = Graph::counts().recorded;
  const cuda::Memory before = cuda::memory(kCudaDevice);
  serve(10000, 100000);
  CHECK(Graph::counts().recorded == recorded);
  const cuda::Memory after = cuda::memory(kCudaDevice);
  CHECK(after.allocations == before.allocations);
  CHECK(after.used == before.used);
  CHECK(after.free == before.free);
}
