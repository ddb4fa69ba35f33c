// Ring 3: every family against transformers on the tiny checkpoints of tests/goldens (scripts/make_goldens.py).
//
// Proves for each: logits of the packed inference path on every instruction set, the greedy continuation, loss and the
// gradient of every tensor under the checkpoint's own names and shapes.
// Tolerances: both sides compute in float32 and sum in other orders. A logit is a sum of some hundred rounded products
// through two blocks, about sqrt(100 * 20) * 6e-8 = 3e-6 of its spread; 1e-4 leaves a factor for unlucky rows and would
// still show a wrong eps (1e-5 against 1e-6 shifts these logits by 1e-3).
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "autograd/tape.h"
#include "common/observer.h"
#include "config/model_config.h"
#include "formats/safetensors.h"
#include "generate/sequence_cache.h"
#include "llm/family.h"
#include "llm/load.h"
#include "llm/registry.h"
#include "tensor/cpu_features.h"
#include "tensor/storage_forecast.h"
#include "tests/catch.h"
#include "tests/support.h"

namespace {

using namespace lathe;

struct Golden {
  std::string folder;
  std::map<std::string, StoredTensor> expected;
  std::vector<int32_t> tokens;

  explicit Golden(const std::string& name) : folder(test::source_dir() / "tests" / "goldens" / name) {
    for (StoredTensor& t : read_safetensors(folder + "/expected.safetensors")) expected.emplace(t.name, t);
    tokens = values<int32_t>("tokens");
  }
  template <class T>
  std::vector<T> values(const std::string& name) const {
    const StoredTensor& t = expected.at(name);
    std::vector<T> v(t.bytes / sizeof(T));
    std::memcpy(v.data(), t.data, t.bytes);
    return v;
  }
};

LoadedModel load(const Golden& golden, bool trainable, Device device = {}) {
  LoadOptions options;
  options.device = device;
  options.dtype = ComputeDtype::float32;
  options.trainable = trainable;
  return load_model(golden.folder, options);
}

// One sequence without a cache.
Batch training_batch(const CausalLM& model, const std::vector<int32_t>& tokens) {
  const auto rope = RopeTables(model.config, std::ssize(tokens), DType::f32, model.device()).of(std::ssize(tokens));
  BatchSequence s;
  s.tokens = tokens;
  s.rope = rope.get();
  return make_batch({&s, 1}, nullptr, model.device());
}

double spread(const std::vector<float>& v) {
  double sum = 0, squares = 0;
  for (const float x : v) sum += x, squares += double(x) * x;
  const double n = static_cast<double>(v.size());
  return std::sqrt(squares / n - sum / n * sum / n);
}

// Logits of the packed inference path, and the greedy continuation.
void check_inference(const Golden& golden, const std::string& where, Device device) {
  const std::vector<float> want = golden.values<float>("logits");
  const LoadedModel loaded = load(golden, false, device);
  const int64_t vocab = loaded.model->sizes.vocab_size;
  const Tensor got = all_logits(*loaded.model, golden.tokens, DType::f32);
  REQUIRE(got.elements() == static_cast<int64_t>(want.size()));
  double worst = 0;
  for (size_t i = 0; i < want.size(); ++i) worst = std::max(worst, std::abs(double(got.data<float>()[i]) - want[i]));
  INFO(golden.folder << " on " << where << ": max error / spread " << worst / spread(want));
  CHECK(worst / spread(want) < 1e-4);

  if (golden.expected.count("greedy") == 0) return;
  std::vector<int32_t> text = golden.tokens;
  for (const int32_t next : golden.values<int32_t>("greedy")) {
    const Tensor l = all_logits(*loaded.model, text, DType::f32);
    const float* row = l.data<float>() + (l.dim(0) - 1) * vocab;
    REQUIRE(static_cast<int32_t>(std::max_element(row, row + vocab) - row) == next);
    text.push_back(next);
  }
}

// Loss and the gradient of every tensor.
void check_training(const Golden& golden, const std::string& name, Device device) {
  LoadedModel loaded = load(golden, true, device);
  const auto n = static_cast<int64_t>(golden.tokens.size());
  std::vector<int32_t> next(golden.tokens.begin() + 1, golden.tokens.end());
  next.push_back(kIgnoredTarget);

  Tape tape;
  Tensor total;
  {
    const Tape::Scope recording(tape);
    total = loss(*loaded.model, training_batch(*loaded.model, golden.tokens), Tensor::of<int32_t>({n}, next.data()));
  }
  // The 16 of a block are what docs/tape.svg draws; the embedding is before them, the last norm and the loss behind.
  if (name == "llama_untied_gqa") CHECK(tape.entries() == 1 + 16 * 2 + 2);
  tape.backward(total);
  CHECK(std::abs(total.to(Device{}).data<float>()[0] - golden.values<float>("loss")[0]) < 1e-5);

  NamedTensors gradients;
  for (const NamedParameter& p : named_parameters(*loaded.model))
    gradients.emplace_back(p.name, p.parameter->gradient().to(Device{}));
  std::map<std::string, Tensor> got;
  for (auto& [tensor, gradient] : as_stored(loaded, gradients)) got.emplace("grad." + tensor, gradient);
  size_t compared = 0;
  for (const auto& [tensor, stored] : golden.expected) {
    if (!tensor.starts_with("grad.")) continue;
    INFO(name << " on " << to_string(device) << ": " << tensor);
    REQUIRE(got.count(tensor) == 1);
    const std::vector<float> want = golden.values<float>(tensor);
    const Tensor& g = got.at(tensor);
    REQUIRE(std::vector<int64_t>(g.shape().begin(), g.shape().end()) == stored.shape);
    double difference = 0, norm = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      difference += std::pow(double(g.data<float>()[i]) - want[i], 2);
      norm += double(want[i]) * want[i];
    }
    CHECK(std::sqrt(difference) <= 1e-4 * std::sqrt(norm) + 1e-7);
    ++compared;
  }
  CHECK(compared == got.size());
}

}  // namespace

TEST_CASE("logits and greedy text equal the reference on every instruction set and device", "[device]") {
  for (const std::string& name : test::goldens()) {
    const Golden golden(name);
    for (const Device device : test::tested_devices()) {
      if (device.kind != Device::Kind::cpu) {
        check_inference(golden, to_string(device), device);
        continue;
      }
      for (const CpuIsa isa : test::tested_isas()) {
        set_cpu_isa(isa);
        check_inference(golden, std::string(lathe::name(isa)), Device{});
      }
      set_cpu_isa(available_isas().back());
    }
  }
}

TEST_CASE("loss and all gradients equal the reference under the checkpoint's names", "[device]") {
  for (const std::string& name : test::goldens())
    for (const Device device : test::tested_devices()) check_training(Golden(name), name, device);
}

TEST_CASE("the routers' balancing loss equals the reference") {
  struct Routers final : Observer {
    void observe(const std::string& name, const Tensor& x) override {
      if (name.ends_with(".mlp.router_logits")) logits.push_back(x);
    }
    bool wants(const std::string&) const override { return false; }
    std::vector<Tensor> logits;
  };
  size_t compared = 0;
  for (const std::string& name : test::goldens()) {
    const Golden golden(name);
    if (!golden.expected.contains("router_loss")) continue;
    const LoadedModel loaded = load(golden, true);
    Routers routers;
    {
      const Observer::Scope watched(routers);
      loaded.model->hidden(training_batch(*loaded.model, golden.tokens));
    }
    const Tensor got = load_balancing_loss(routers.logits, loaded.model->sizes.num_experts_per_tok);
    INFO(name);
    CHECK(got.data<float>()[0] == Catch::Approx(golden.values<float>("router_loss")[0]).epsilon(1e-5));
    ++compared;
  }
  CHECK(compared == 4);
}

TEST_CASE("a router keeps its dtype where the experts are quantised") {
  const Golden golden("mixtral");
  LoadOptions options;
  options.quantize = DType::q8_0;
  const LoadedModel loaded = load_model(golden.folder, options);
  size_t routers = 0, experts = 0;
  for (const NamedParameter& p : named_parameters(*loaded.model)) {
    if (p.name.ends_with(".mlp.gate.weight")) routers += p.parameter->packed->matrix.dtype == DType::f32;
    if (p.name.ends_with(".gate_proj.weight")) experts += p.parameter->packed->matrix.dtype == DType::q8_0;
  }
  CHECK(routers == 2);
  CHECK(experts == 10);
}

TEST_CASE("Qwen3's attention with its norms of q and k off is Llama's, the same bits") {
  const Golden golden("qwen3_untied");
  const auto logits_as = [&](const char* architecture, bool norms) {
    ModelConfig config = read_config_json(golden.folder + "/config.json", family_configs());
    config.architecture = architecture;
    config.qk_norm = norms;
    const auto model = family_of(config).make(config);
    initialise(*model, 1);
    prepare_for_inference(*model, Arithmetic::f32);
    const Tensor l = all_logits(*model, golden.tokens, DType::f32);
    return std::vector<float>(l.data<float>(), l.data<float>() + l.elements());
  };
  CHECK(logits_as("Qwen3ForCausalLM", false) == logits_as("LlamaForCausalLM", false));
  CHECK(logits_as("Qwen3ForCausalLM", true) != logits_as("LlamaForCausalLM", false));
}

TEST_CASE("every family runs on the plan device, forwards and backwards, without reading an element") {
  constexpr Device kPlan{Device::Kind::plan};
  for (const std::string& name : test::goldens()) {
    INFO(name);
    const Golden golden(name);
    const auto forecast = StorageForecast::make();
    const Active<StorageForecast> active(forecast.get());
    const LoadedModel opened = open_model(golden.folder);
    const ModelConfig& config = opened.model->config;
    const auto model = [&](bool packed) {
      auto made = family_of(config).make(config);
      for (const NamedParameter& named : named_parameters(*made)) {
        named.parameter->value = Tensor::empty(named.parameter->shape, DType::f32, kPlan);
        if (packed) named.parameter->prepare_for_inference(Arithmetic::f32);
      }
      return made;
    };
    const auto trained = model(false), inferring = model(true);
    const int64_t n = std::ssize(golden.tokens), vocab = trained->sizes.vocab_size;

    // With a cache: logits of the last token.
    const size_t groups = layer_groups(config).size();
    KVCache cache(config, DType::f16, std::vector<int64_t>(groups, n), kPlan);
    const std::vector<int32_t> pages(static_cast<size_t>(n));
    const auto rope = RopeTables(config, n, DType::f32, kPlan).of(n);
    const BatchSequence cached{golden.tokens, 0, {groups, pages}, rope.get(), n - 1};
    const Tensor last = logits(*inferring, make_batch({&cached, 1}, &cache));
    CHECK(last.shape() == Shape{1, vocab});
    CHECK(last.device() == kPlan);
    CHECK_THROWS_WITH(last.host<float>(), Catch::Matchers::ContainsSubstring("lie on plan"));

    // Without one: the loss and every gradient.
    const BatchSequence whole{golden.tokens, 0, {}, rope.get(), 0};
    const Batch batch = make_batch({&whole, 1}, nullptr, kPlan);
    const size_t before = forecast->resident();
    Tape tape;
    Tensor y;
    {
      const Tape::Scope recording(tape);
      y = loss(*trained, batch, Tensor::empty({n}, DType::i32, kPlan));
    }
    tape.backward(y);
    CHECK(forecast->peak() > before);
    for (const NamedParameter& named : named_parameters(*trained))
      if (named.parameter->grad.defined()) CHECK(named.parameter->grad.shape() == named.parameter->shape);
  }
}
