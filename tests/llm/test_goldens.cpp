// Ring 3: every family against transformers on the tiny checkpoints of tests/goldens (scripts/make_goldens.py).
//
// Proves for each: logits of the packed inference path on every instruction set, the greedy continuation, loss and the
// gradient of every tensor under the checkpoint's own names and shapes.
// Tolerances: both sides compute in float32 and sum in other orders. A logit is a sum of some hundred rounded products
// through two blocks, about sqrt(100 * 20) * 6e-8 = 3e-6 of its spread; 1e-4 leaves a factor for unlucky rows and would
// still show a wrong eps (1e-5 against 1e-6 shifts these logits by 1e-3).
#include <algorithm>
#include <cmath>
#include <map>

#include "autograd/tape.h"
#include "formats/safetensors.h"
#include "llm/load.h"
#include "tensor/cpu_features.h"
#include "tests/catch.h"
#include "tests/support.h"

namespace {

using namespace lathe;

const char* const kGoldens[] = {"gpt2", "llama_untied_gqa", "llama_tied_llama3_rope", "llama_biases_head_dim_yarn",
                                "llama_dynamic"};

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

LoadedModel load(const Golden& golden, bool trainable) {
  LoadOptions options;
  options.dtype = ComputeDtype::float32;
  options.trainable = trainable;
  return load_model(golden.folder, options);
}

double spread(const std::vector<float>& v) {
  double sum = 0, squares = 0;
  for (const float x : v) sum += x, squares += double(x) * x;
  const double n = static_cast<double>(v.size());
  return std::sqrt(squares / n - sum / n * sum / n);
}

int32_t argmax(const float* row, int64_t n) { return static_cast<int32_t>(std::max_element(row, row + n) - row); }

}  // namespace

TEST_CASE("logits and greedy text equal the reference on every instruction set") {
  for (const char* name : kGoldens) {
    const Golden golden(name);
    const std::vector<float> want = golden.values<float>("logits");
    for (const CpuIsa isa : available_isas()) {
      set_cpu_isa(isa);
      const LoadedModel loaded = load(golden, false);
      const int64_t vocab = loaded.model->config.vocab_size;
      const Tensor got = all_logits(*loaded.model, golden.tokens, DType::f32);
      REQUIRE(got.elements() == static_cast<int64_t>(want.size()));
      double worst = 0;
      for (size_t i = 0; i < want.size(); ++i)
        worst = std::max(worst, std::abs(double(got.data<float>()[i]) - want[i]));
      INFO(name << " on " << lathe::name(isa) << ": max error / spread " << worst / spread(want));
      CHECK(worst / spread(want) < 1e-4);

      if (golden.expected.count("greedy") == 0) continue;
      std::vector<int32_t> text = golden.tokens;
      for (const int32_t next : golden.values<int32_t>("greedy")) {
        const Tensor l = all_logits(*loaded.model, text, DType::f32);
        REQUIRE(argmax(l.data<float>() + (l.dim(0) - 1) * vocab, vocab) == next);
        text.push_back(next);
      }
    }
    set_cpu_isa(available_isas().back());
  }
}

TEST_CASE("loss and all gradients equal the reference under the checkpoint's names") {
  for (const char* name : kGoldens) {
    const Golden golden(name);
    LoadedModel loaded = load(golden, true);
    const auto n = static_cast<int64_t>(golden.tokens.size());
    const RopeFrequencies rope = rope_frequencies(loaded.model->config, n);
    BatchSequence s;
    s.tokens = golden.tokens;
    if (loaded.model->config.uses_rope()) s.rope = &rope;
    std::vector<int32_t> next(golden.tokens.begin() + 1, golden.tokens.end());
    next.push_back(kIgnoredTarget);

    Tape tape;
    Tensor total;
    {
      const Tape::Scope recording(tape);
      total = loss(*loaded.model, make_batch({&s, 1}, nullptr), Tensor::of<int32_t>({n}, next.data()));
    }
    tape.backward(total);
    CHECK(std::abs(total.data<float>()[0] - golden.values<float>("loss")[0]) < 1e-5);

    NamedTensors gradients;
    for (const NamedParameter& p : named_parameters(*loaded.model))
      gradients.emplace_back(p.name, p.parameter->gradient());
    std::map<std::string, Tensor> got;
    for (auto& [tensor, gradient] : as_stored(loaded, gradients)) got.emplace("grad." + tensor, gradient);
    size_t compared = 0;
    for (const auto& [tensor, stored] : golden.expected) {
      if (!tensor.starts_with("grad.")) continue;
      INFO(name << " " << tensor);
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
}
