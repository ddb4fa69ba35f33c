// A plan for a device against what a run takes of its memory, as the driver counts it.
#include "generate/decode_graphs.h"
#include "generate/engine.h"
#include "generate/inference_plan.h"
#include "llm/load.h"
#include "tensor/cuda.h"
#include "tensor/device_memory.h"
#include "tests/catch.h"
#include "tests/device/device.h"
#include "tests/generate/random_requests.h"
#include "tests/support.h"

using namespace lathe;
using namespace lathe::test;

namespace {

size_t taken_now() {
  const cuda::Memory memory = cuda::memory(kCudaDevice);
  return memory.total - memory.free;
}

}  // namespace

// What is planned is exact for weights; a step's tensors are counted for whole sequences, which is a tenth more than
// the prompts below have, and integers of a step and what sampling looks at are not counted: some blocks of 256 bytes
// to 4 KiB.
TEST_CASE("a plan for a device is what loading and serving take of its memory") {
  for (const char* name : {"llama_untied_gqa", "gpt2", "mixtral", "gemma3"})
    for (const std::optional<DType> quantize : {std::optional<DType>(), std::optional(DType::q8_0)}) {
      const std::string folder = golden_path(name);
      PlanRequest request;
      request.load.device = kCudaDevice;
      request.load.quantize = quantize;
      request.batch = 3;
      request.context = 24;
      const LoadedModel opened = open_model(folder, request.load);
      request.cache_dtype = opened.cache_dtype;
      const InferencePlan plan = plan_inference(opened, request);

      cuda::trim(kCudaDevice);
      const size_t before = taken_now();
      const LoadedModel loaded = load_model(folder, request.load);
      CHECK(taken_now() - before == plan.weights);

      EngineOptions options;
      options.cache_dtype = request.cache_dtype;
      options.context = request.context;
      options.kv_memory = 2 * plan.cache;  // room for all of them to begin at once
      Engine engine(*loaded.model, nullptr, options);
      const size_t with_cache = taken_now();
      std::vector<Request> requests(static_cast<size_t>(request.batch));
      for (size_t i = 0; i < requests.size(); ++i) {
        for (int64_t j = 0; j < request.context - 2; ++j)
          requests[i].prompt.push_back(static_cast<int32_t>((17 * j + static_cast<int64_t>(i)) % 50));
        requests[i].max_new_tokens = 2;
      }
      generate(engine, requests);
      const int64_t shared_logits =
          DecodeGraphs::bucket_rows(options.max_sequences) * loaded.model->sizes.vocab_size * 4;
      const size_t steps = taken_now() - with_cache;
      const size_t planned = plan.activations + plan.graphs - device_block_bytes(static_cast<size_t>(shared_logits));
      INFO(name << (quantize ? ", q8_0" : "") << ": steps take " << steps << ", planned " << planned);
      CHECK(static_cast<double>(steps) <= static_cast<double>(planned) + 16384);
      CHECK(static_cast<double>(planned) <= 1.1 * static_cast<double>(steps));
    }
}
