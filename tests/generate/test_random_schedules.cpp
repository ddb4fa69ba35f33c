// Random schedules: whatever is admitted, cut into chunks, preempted, shared, guessed and cancelled, on one thread or
// two, what a request generates is what it generates alone. For every family, instruction set and stored form.
#include <memory>

#include "config/model_config.h"
#include "generate/speculation.h"
#include "tensor/cpu_features.h"
#include "tensor/random.h"
#include "tensor/threads.h"
#include "tests/catch.h"
#include "tests/generate/random_requests.h"
#include "tests/support.h"

using namespace lathe;
using namespace lathe::test;

namespace {

// Of 12 requests, for each setting: seven thousand requests with five instruction sets.
constexpr int kSchedules = kSanitized ? 1 : 3;

// Rows are 256 wide, so every format that can be written fits. q2_k and q3_k, which are only read, keep the same laws
// in tests/kernels.
constexpr Setting kStoredForms[] = {
    {DType::f32, Arithmetic::f32, DType::f32},      {DType::f16, Arithmetic::f32, DType::f16},
    {DType::bf16, Arithmetic::bf16, DType::bf16},   {DType::bf16, Arithmetic::f32, DType::q8_0},
    {DType::q8_0, Arithmetic::int8, DType::f16},    {DType::q4_0, Arithmetic::int8, DType::q8_0},
    {DType::q4_1, Arithmetic::int8, DType::f16},    {DType::q5_0, Arithmetic::int8, DType::bf16},
    {DType::q5_1, Arithmetic::int8, DType::f32},    {DType::q4_k, Arithmetic::int8, DType::f16},
    {DType::q5_k, Arithmetic::int8, DType::q8_0},   {DType::q6_k, Arithmetic::int8, DType::f16},
    {DType::q6_k, Arithmetic::bf16, DType::f16},    {DType::iq4_nl, Arithmetic::int8, DType::f16},
    {DType::iq4_xs, Arithmetic::int8, DType::q8_0},
};

// Numbers in [0, below), one after another.
class Draws {
 public:
  explicit Draws(uint64_t seed) : seed_(seed) {}
  int64_t operator()(int64_t below) {
    return static_cast<int64_t>(random_uniform(seed_, 7, drawn_++) * static_cast<double>(below));
  }

 private:
  uint64_t seed_, drawn_ = 0;
};

// Some prompts continue others, so that there are prefixes to share.
std::vector<Request> related_requests(uint64_t seed) {
  std::vector<Request> list = random_requests(6, seed);
  for (size_t i = 2; i < list.size(); i += 2) {
    const std::vector<int32_t>& first = list[0].prompt;
    list[i].prompt.insert(list[i].prompt.begin(), first.begin(), first.end());
    list[i].prompt.resize(std::min<size_t>(list[i].prompt.size(), 70));
  }
  for (Request& r : list) r.max_new_tokens = std::min<int64_t>(r.max_new_tokens, 25);
  return list;
}

struct Totals {
  int64_t preempted = 0, cached = 0, drafted = 0, cancelled = 0, finished = 0;
};

// One engine with random limits, fed and disturbed at random until all is answered.
void run_schedule(const std::shared_ptr<const CausalLM>& model, DType cache_dtype, const std::vector<Request>& list,
                  const std::vector<std::vector<std::string>>& expected, uint64_t seed, Totals& totals) {
  Draws draw(seed);
  EngineOptions options;
  options.cache_dtype = cache_dtype;
  options.context = 96;
  options.max_batch_tokens = 5 + draw(60);
  options.max_sequences = 1 + draw(std::min<int64_t>(options.max_batch_tokens, 8));
  options.kv_memory = memory_for(model->sizes, cache_dtype, 6 + draw(8));
  options.prefix_cache = draw(4) != 0;
  const int64_t drafter = draw(4);
  if (drafter == 0) options.drafter = make_ngram_drafter();
  if (drafter == 1)
    options.drafter = make_model_drafter(model, *model, DType::f32, options.context, options.max_sequences);
  set_threads(1 + static_cast<int>(draw(2)));
  Engine engine(*model, nullptr, options);
  std::vector<RequestId> submitted;
  for (int64_t left = 12; left > 0 || !engine.idle();) {
    if (left > 0 && draw(3) != 0) {
      --left;
      const auto which = static_cast<size_t>(draw(std::ssize(list)));
      submitted.push_back(engine.submit(list[which], [&, which](const GenerationEvent& e) {
        if (!e.completion) return;
        totals.cached += e.completion->cached_tokens;
        if (e.completion->finish_reason == FinishReason::cancelled) return;
        ++totals.finished;
        CHECK(fingerprint(*e.completion) == expected[which][static_cast<size_t>(e.sequence)]);
      }));
    }
    if (!submitted.empty() && draw(40) == 0) {
      engine.cancel(submitted[static_cast<size_t>(draw(std::ssize(submitted)))]);
      ++totals.cancelled;
    }
    for (int64_t steps = draw(4); steps > 0; --steps) {
      const StepReport report = engine.step();
      totals.preempted += report.preempted;
      totals.drafted += report.drafted;
    }
  }
}

void check_family(const ModelConfig& config, std::span<const Setting> settings) {
  const CpuIsa isa_before = cpu_isa();
  const int threads_before = thread_team().size();
  Totals totals;
  uint64_t seed = 1000;
  for (const CpuIsa isa : tested_isas()) {
    set_cpu_isa(isa);
    for (const Setting& setting : settings) {
      INFO(name(isa) << ", weights " << name(setting.weights) << ", arithmetic " << static_cast<int>(setting.arithmetic)
                     << ", cache " << name(setting.cache));
      const std::shared_ptr<const CausalLM> model = make_tiny(config, setting.weights, setting.arithmetic);
      const std::vector<Request> list = related_requests(31);
      std::vector<std::vector<std::string>> expected;
      for (const Request& r : list) expected.push_back(one_by_one(*model, {r}, setting.cache));
      for (int schedule = 0; schedule < kSchedules; ++schedule)
        run_schedule(model, setting.cache, list, expected, ++seed, totals);
    }
  }
  set_threads(threads_before);
  set_cpu_isa(isa_before);
  // Otherwise the schedules would prove less than they say.
  CHECK(totals.finished > 0);
  CHECK(totals.preempted > 0);
  CHECK(totals.cached > 0);
  CHECK(totals.cancelled > 0);
  CHECK(totals.drafted > 0);
}

}  // namespace

TEST_CASE("Llama: any schedule = alone, in every form") {
  check_family(tiny_wide_llama(), tried<Setting>(kStoredForms, 3));
}

TEST_CASE("sliding window: any schedule = alone, in every form") {
  ModelConfig config = tiny_wide_llama();
  config.layer_window = tiny_windowed_llama().layer_window;
  check_family(config, tried<Setting>(kStoredForms, 4));
}

TEST_CASE("GPT-2: any schedule = alone, in every form") {
  const ModelConfig wide = tiny_wide_llama();
  ModelConfig config = tiny_gpt2();
  config.hidden_size = config.intermediate_size = wide.hidden_size;
  config.head_dim = wide.head_dim;
  check_family(config, tried<Setting>(kStoredForms, 4));
}
