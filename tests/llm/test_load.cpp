// Loading a model whole: the four cases of a tied head, quantisation on load, unknown architectures.
#include <cstring>
#include <functional>
#include <limits>

#include "autograd/convert.h"
#include "formats/safetensors.h"
#include "generate/sequence_cache.h"
#include "llm/load.h"
#include "tests/catch.h"
#include "tests/support.h"

namespace {

using namespace lathe;

const char* const kConfig = R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 64,
  "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
  "num_key_value_heads": 1, "max_position_embeddings": 32, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
  "hidden_act": "silu", "tie_word_embeddings": %TIED%})";

// A Llama checkpoint of constant tensors; `head`: 0 none, 1 equal to the embedding, 2 another.
std::string write_checkpoint(const test::TemporaryDirectory& folder, bool tied, int head) {
  std::string config = kConfig;
  config.replace(config.find("%TIED%"), 6, tied ? "true" : "false");
  test::write_file(folder.path() / "config.json", config);
  const auto filled = [](Shape shape, float start) {
    Tensor t = Tensor::empty(shape);
    for (int64_t i = 0; i < t.elements(); ++i) t.data<float>()[i] = start + 0.01f * static_cast<float>((i * 37) % 101);
    return t;
  };
  std::vector<std::pair<std::string, Tensor>> tensors = {{"model.embed_tokens.weight", filled({64, 32}, -0.5f)},
                                                         {"model.norm.weight", filled({32}, 1.0f)}};
  const std::string layer = "model.layers.0.";
  for (const char* norm : {"input_layernorm", "post_attention_layernorm"})
    tensors.emplace_back(layer + norm + ".weight", filled({32}, 1.0f));
  const std::pair<const char*, Shape> matrices[] = {{"self_attn.q_proj", {32, 32}}, {"self_attn.k_proj", {16, 32}},
                                                    {"self_attn.v_proj", {16, 32}}, {"self_attn.o_proj", {32, 32}},
                                                    {"mlp.gate_proj", {64, 32}},    {"mlp.up_proj", {64, 32}},
                                                    {"mlp.down_proj", {32, 64}}};
  for (const auto& [name, shape] : matrices) tensors.emplace_back(layer + name + ".weight", filled(shape, -0.4f));
  if (head != 0) tensors.emplace_back("lm_head.weight", filled({64, 32}, head == 1 ? -0.5f : 0.1f));
  write_safetensors((folder.path() / "model.safetensors").string(), tensors);
  return folder.path().string();
}

std::vector<float> short_logits(const LoadedModel& loaded) {
  const std::vector<int32_t> tokens = {3, 1, 4, 1, 5};
  const Tensor l = all_logits(*loaded.model, tokens, DType::f32);
  return {l.data<float>(), l.data<float>() + l.elements()};
}

}  // namespace

TEST_CASE("a key of config.json that looks misspelt is warned of, others are not") {
  const test::TemporaryDirectory folder;
  const std::string model = write_checkpoint(folder, false, 2);
  std::string config = test::read_file(folder.path() / "config.json");
  config.insert(1, R"("attention_bais": true, "use_cache": true, "unk_token_id": 3, )");
  test::write_file(folder.path() / "config.json", config);
  const LoadedModel loaded = open_model(model);
  REQUIRE(loaded.warnings.size() == 1);
  CHECK_THAT(loaded.warnings[0], Catch::Matchers::ContainsSubstring("config.json: the key 'attention_bais' is not "
                                                                    "known: did you mean attention_bias?"));
}

TEST_CASE("a head is tied by what the config says and what the file holds together") {
  const test::TemporaryDirectory a, b, c, d, e;
  const LoadedModel tied_absent = load_model(write_checkpoint(a, true, 0));
  const LoadedModel tied_equal = load_model(write_checkpoint(b, true, 1));
  const LoadedModel tied_other = load_model(write_checkpoint(c, true, 2));
  const LoadedModel untied_absent = load_model(write_checkpoint(d, false, 0));
  const LoadedModel untied_other = load_model(write_checkpoint(e, false, 2));

  CHECK(tied_absent.model->sizes.tie_word_embeddings);
  CHECK(tied_absent.warnings.empty());
  CHECK(tied_equal.model->sizes.tie_word_embeddings);
  CHECK(tied_equal.warnings.empty());
  CHECK_FALSE(tied_other.model->sizes.tie_word_embeddings);
  CHECK(tied_other.warnings.size() == 1);
  CHECK(untied_absent.model->sizes.tie_word_embeddings);
  CHECK(untied_absent.warnings.size() == 1);
  CHECK_FALSE(untied_other.model->sizes.tie_word_embeddings);
  CHECK(untied_other.warnings.empty());

  CHECK(short_logits(tied_absent) == short_logits(tied_equal));
  CHECK(short_logits(tied_absent) == short_logits(untied_absent));
  CHECK(short_logits(tied_other) == short_logits(untied_other));
  CHECK(short_logits(tied_other) != short_logits(tied_equal));
}

TEST_CASE("one report lists what a checkpoint lacks and what it has too much") {
  const test::TemporaryDirectory folder;
  write_checkpoint(folder, true, 0);
  const std::string path = (folder.path() / "model.safetensors").string();
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const StoredTensor& t : read_safetensors(path)) {
    Tensor copy = Tensor::empty(Shape(t.shape.begin(), t.shape.end()));
    std::memcpy(copy.raw(), t.data, t.bytes);
    if (t.name == "model.layers.0.mlp.up_proj.weight") copy = copy.view({32, 64});
    tensors.emplace_back(t.name == "model.norm.weight" ? "model.norms.weight" : t.name, copy);
  }
  write_safetensors(path, tensors);
  try {
    load_model(folder.path().string());
    FAIL("expected an Error");
  } catch (const Error& error) {
    const std::string message = error.what();
    CHECK_THAT(message, Catch::Matchers::ContainsSubstring("model.norm.weight"));
    CHECK_THAT(message, Catch::Matchers::ContainsSubstring("model.norms.weight"));
    CHECK_THAT(message, Catch::Matchers::ContainsSubstring("model.layers.0.mlp.up_proj.weight"));
  }
}

TEST_CASE("an unknown architecture is refused with the known ones") {
  const test::TemporaryDirectory folder;
  write_checkpoint(folder, true, 0);
  const std::filesystem::path path = folder.path() / "config.json";
  std::string config = test::read_file(path);
  config.replace(config.find("LlamaForCausalLM"), 16, "YodaForCausalLM");
  test::write_file(path, config);
  try {
    load_model(folder.path().string());
    FAIL("expected an Error");
  } catch (const Error& error) {
    CHECK_THAT(std::string(error.what()) + error.hint(), Catch::Matchers::ContainsSubstring("YodaForCausalLM"));
    CHECK_THAT(std::string(error.what()) + error.hint(), Catch::Matchers::ContainsSubstring("LlamaForCausalLM"));
  }
}

// Writes a checkpoint whose weights are `change`d, by name.
std::string write_changed(const test::TemporaryDirectory& folder,
                          const std::function<Tensor(const std::string&, const Tensor&)>& change) {
  const std::string path = write_checkpoint(folder, false, 2), file = path + "/model.safetensors";
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const StoredTensor& t : read_safetensors(file))
    tensors.emplace_back(
        t.name, change(t.name, Tensor::wrap(t.data, Shape(t.shape.begin(), t.shape.end()), *t.dtype, t.file).clone()));
  write_safetensors(file, tensors);
  return path;
}

TEST_CASE("weights in f64 are those rounded to f32, in every place") {
  const test::TemporaryDirectory plain;
  LoadOptions options, trainable;
  options.dtype = trainable.dtype = ComputeDtype::float32;
  trainable.trainable = true;
  const std::string single = write_checkpoint(plain, false, 2);
  const std::vector<float> want = short_logits(load_model(single, options));
  const std::vector<float> want_unpacked = short_logits(load_model(single, trainable));
  for (const char* part : {"", "norm", "embed_tokens", "q_proj", "lm_head"}) {
    INFO(part);
    const test::TemporaryDirectory folder;
    const std::string path = write_changed(folder, [&](const std::string& name, const Tensor& value) {
      return name.find(part) == std::string::npos ? value : convert(value, DType::f64);
    });
    CHECK(short_logits(load_model(path, options)) == want);
    CHECK(short_logits(load_model(path, trainable)) == want_unpacked);
  }
}

TEST_CASE("a weight beyond the range of what it is loaded as is named") {
  const auto refusal = [](DType stored, double value, std::optional<DType> quantize) {
    const test::TemporaryDirectory folder;
    LoadOptions options;
    options.quantize = quantize;
    const std::string path = write_changed(folder, [&](const std::string& name, const Tensor& tensor) {
      if (!name.ends_with("v_proj.weight")) return tensor;
      Tensor changed = convert(tensor, stored).clone();
      stored == DType::f64 ? changed.data<double>()[70] = value : changed.data<float>()[70] = static_cast<float>(value);
      return changed;
    });
    try {
      load_model(path, options);
      return std::string();
    } catch (const Error& e) {
      return std::string(e.what());
    }
  };
  using Catch::Matchers::ContainsSubstring;
  CHECK_THAT(refusal(DType::f64, -1e300, std::nullopt),
             ContainsSubstring("model.layers.0.self_attn.v_proj.weight: row 2 holds -1e+300, which f32 cannot hold"));
  CHECK_THAT(refusal(DType::f32, 2e6, DType::q5_0),
             ContainsSubstring("v_proj.weight: row 2 holds 2000000, which q5_0 cannot hold"));
  CHECK_THAT(refusal(DType::f32, std::numeric_limits<double>::quiet_NaN(), DType::q6_k),
             ContainsSubstring("v_proj.weight: row 2 holds nan, which q8_0 cannot hold"));  // rows of 32 take q8_0
  CHECK(refusal(DType::f32, 2e6, std::nullopt).empty());
}

TEST_CASE("arithmetic of integers is computed, or refused by name") {
  const test::TemporaryDirectory folder;
  const std::string model = write_checkpoint(folder, true, 0);
  for (const auto& [dtype, name, arithmetic] : {std::tuple{ComputeDtype::int8, "int8", Arithmetic::int8},
                                                std::tuple{ComputeDtype::int16, "int16", Arithmetic::int16}}) {
    LoadOptions options;
    options.dtype = dtype;
    CHECK_THROWS_WITH(load_model(model, options),
                      Catch::Matchers::ContainsSubstring(std::string("dtype: ") + name + " is for quantised weights"));
    options.quantize = DType::q8_0;
    const LoadedModel loaded = load_model(model, options);
    for (const NamedParameter& p : named_parameters(*loaded.model))
      if (p.parameter->kind == Parameter::Kind::matrix) CHECK(p.parameter->packed->arithmetic == arithmetic);
  }
}

TEST_CASE("weights quantised on load stay near the float ones") {
  const test::TemporaryDirectory folder;
  const std::string path = write_checkpoint(folder, false, 2);
  LoadOptions options;
  options.dtype = ComputeDtype::float32;
  const std::vector<float> exact = short_logits(load_model(path, options));
  options.quantize = DType::q8_0;
  const std::vector<float> coarse = short_logits(load_model(path, options));
  double difference = 0, norm = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    difference += std::pow(double(exact[i]) - coarse[i], 2);
    norm += double(exact[i]) * exact[i];
  }
  // q8_0 rounds to 1/254 of a block's largest weight: a relative error under 1% after one block.
  CHECK(difference > 0);
  CHECK(std::sqrt(difference / norm) < 0.01);
}
