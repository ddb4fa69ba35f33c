// Operations in one pass, and one by one for an observer: the same bits, and the observer sees every step.
#include <algorithm>
#include <map>
#include <numeric>

#include "attention/attend.h"
#include "common/observer.h"
#include "tests/catch.h"
#include "tests/generate/tiny_models.h"

using namespace lathe;
using namespace lathe::test;

namespace {

class Watcher final : public Observer {
 public:
  void observe(const std::string& name, const Tensor& x) override { seen.emplace(name, x.clone()); }
  bool wants(const std::string&) const override { return false; }
  std::map<std::string, Tensor> seen;
};

std::vector<float> values(const Tensor& x) {
  const Tensor flat = x.clone();
  return {flat.data<float>(), flat.data<float>() + flat.elements()};
}

Parameter norm_weight(int64_t n) {
  Parameter w(Parameter::Kind::norm, {n});
  w.value = Tensor::empty({n});
  for (int64_t i = 0; i < n; ++i) w.value.data<float>()[i] = 0.5f + 0.1f * static_cast<float>(i % 11);
  return w;
}

}  // namespace

TEST_CASE("a model that is watched computes the same bits as one that is not") {
  for (const ModelConfig& config : tiny_models()) {
    const auto model = make_tiny(config);
    const std::vector<int32_t> tokens = random_tokens(40, 8);
    std::vector<int32_t> pages(3);
    std::iota(pages.begin(), pages.end(), 0);
    const auto logits_in_two_chunks = [&] {
      KVCache cache = poisoned_cache(*model, DType::f16, 3);
      HandFed s{tokens, pages, 0, {}};
      feed(*model, cache, {&s}, {29});
      feed(*model, cache, {&s}, {11});
      return s.logits;
    };
    const std::vector<float> alone = logits_in_two_chunks();
    Watcher watcher;
    const Observer::Scope watched(watcher);
    CHECK(logits_in_two_chunks() == alone);
    for (const char* step : {"q", "k", "v", "heads"})
      CHECK(watcher.seen.count(fmt::format("model.layers.1.self_attn.{}", step)) == 1);
    for (const char* step : {"q_rope", "k_rope"})
      CHECK(watcher.seen.count(fmt::format("model.layers.0.self_attn.{}", step)) == (model->sizes.uses_rope() ? 1 : 0));
  }
}

TEST_CASE("norms over heads, rotation and the write in one pass = one by one, with and without a cache") {
  const auto model = make_tiny(tiny_llama());
  const ModelSizes& c = model->sizes;
  const int64_t n = 21, heads = c.num_attention_heads, kv_heads = c.num_key_value_heads, d = c.head_dim;
  const std::vector<int32_t> tokens = random_tokens(n, 9), pages = {1, 0};
  const auto table = RopeTables(model->config, n).of(n);
  const auto random_heads = [&](int64_t count, uint64_t seed) {
    const std::vector<int32_t> draws = random_tokens(n * count * d, seed);
    const Tensor x = Tensor::empty({n, count, d});
    std::transform(draws.begin(), draws.end(), x.data<float>(),
                   [](int32_t i) { return static_cast<float>(i - 128) / 64.0f; });
    return x;
  };
  const Tensor q = random_heads(heads, 1), k = random_heads(kv_heads, 2), v = random_heads(kv_heads, 3);
  RmsNorm q_norm(d, 1e-6, 1.0), k_norm(d, 1e-5);
  q_norm.weight = k_norm.weight = norm_weight(d);
  for (const DType dtype : {DType::f32, DType::f16, DType::q8_0}) {
    KVCache cache(c, dtype, {2});
    BatchSequence s;
    s.tokens = tokens;
    s.pages.assign(1, pages);
    s.rope = table.get();
    const Batch batch = make_batch({&s, 1}, &cache), without_cache = make_batch({&s, 1}, nullptr);
    for (const bool rotated : {true, false}) {
      const RopeAngles* rope = rotated ? &batch.rope[0] : nullptr;
      AttentionOptions options;
      options.scale = 0.25f;
      const std::vector<float> at_once = values(attend(q, k, v, q_norm, k_norm, rope, batch, 0, options));
      Watcher watcher;
      {
        const Observer::Scope watched(watcher);
        CHECK(values(attend(q, k, v, q_norm, k_norm, rope, batch, 0, options)) == at_once);
      }
      CHECK(values(watcher.seen.at("q_norm")) == values(q_norm(q)));
      CHECK(values(watcher.seen.at("k_norm")) == values(k_norm(k)));
      CHECK(watcher.seen.count("q_rope") == (rotated ? 1 : 0));
      if (dtype == DType::f32) {
        const std::vector<float> training = values(attend(q, k, v, q_norm, k_norm, rope, without_cache, 0, options));
        for (size_t i = 0; i < training.size(); ++i) CHECK(training[i] == Catch::Approx(at_once[i]).margin(1e-5));
      }
    }
  }
}
