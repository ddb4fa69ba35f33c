// Adapters in PEFT's files: what they change, and what is refused.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "config/model_config.h"
#include "formats/safetensors.h"
#include "generate/sequence_cache.h"
#include "llm/adapter_file.h"
#include "llm/export.h"
#include "llm/load.h"
#include "tensor/random.h"
#include "tests/catch.h"
#include "tests/support.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

using Json = nlohmann::ordered_json;

const std::vector<int32_t> kTokens = {1, 7, 60, 3, 22, 22, 41, 9};

Tensor random_matrix(int64_t rows, int64_t columns, uint64_t seed) {
  Tensor t = Tensor::empty({rows, columns});
  for (int64_t i = 0; i < t.elements(); ++i)
    t.host<float>()[i] = static_cast<float>(0.2 * random_normal(seed, 0, static_cast<uint64_t>(i)));
  return t;
}

// An adapter of rank 2, its files written key by key: of layer 0's q_proj and layer 1's down_proj of the golden Llama.
struct WrittenAdapter {
  TemporaryDirectory place;
  std::string folder = (place.path() / "adapter").string();
  Json config = {{"peft_type", "LORA"},
                 {"task_type", "CAUSAL_LM"},
                 {"r", 2},
                 {"lora_alpha", 3},
                 {"target_modules", {"0.self_attn.q_proj", "model.layers.1.mlp.down_proj"}},
                 {"base_model_name_or_path", "anything"},
                 {"bias", "none"},
                 {"fan_in_fan_out", false}};
  std::map<std::string, Tensor> tensors = {{"model.layers.0.self_attn.q_proj.lora_A.weight", random_matrix(2, 32, 1)},
                                           {"model.layers.0.self_attn.q_proj.lora_B.weight", random_matrix(32, 2, 2)},
                                           {"model.layers.1.mlp.down_proj.lora_A.weight", random_matrix(2, 48, 3)},
                                           {"model.layers.1.mlp.down_proj.lora_B.weight", random_matrix(32, 2, 4)}};
  std::string prefix = "base_model.model.";

  void write() const {
    fs::create_directories(folder);
    write_file(folder + "/adapter_config.json", config.dump());
    std::vector<std::pair<std::string, Tensor>> named;
    for (const auto& [name, tensor] : tensors) named.emplace_back(prefix + name, tensor);
    write_safetensors(folder + "/adapter_model.safetensors", named, {{"format", "pt"}});
  }
  // What becomes of loading it beside the golden Llama.
  LoadedModel load(const LoadOptions& more = {.dtype = ComputeDtype::float32}) const {
    write();
    LoadOptions options = more;
    options.adapter = folder;
    return load_model(golden_path("llama_untied_gqa"), options);
  }
  void refused(const std::string& message) const { CHECK_THROWS_WITH(load(), ContainsSubstring(message)); }
};

std::vector<float> logits_of(const LoadedModel& loaded, const std::vector<int32_t>& tokens = kTokens) {
  const Tensor l = all_logits(*loaded.model, tokens, DType::f32);
  return {l.host<float>(), l.host<float>() + l.elements()};
}

// The largest difference by the spread of the second.
double relative_error(const std::vector<float>& got, const std::vector<float>& want) {
  REQUIRE(got.size() == want.size());
  double worst = 0, sum = 0, squares = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    worst = std::max(worst, std::abs(double(got[i]) - want[i]));
    sum += want[i], squares += double(want[i]) * want[i];
  }
  const double n = static_cast<double>(want.size());
  return worst / std::sqrt(squares / n - sum / n * sum / n);
}

// Every parameter of the golden, s B A added to those that the adapter changes.
std::vector<float> logits_of_edited_weights(const WrittenAdapter& adapter, double scale) {
  const LoadedModel loaded = load_model(golden_path("llama_untied_gqa"), {.trainable = true});
  for (const NamedParameter& named : named_parameters(*loaded.model)) {
    const std::string module = named.name.substr(0, named.name.rfind('.'));
    const auto a = adapter.tensors.find(module + ".lora_A.weight");
    if (a == adapter.tensors.end() || named.parameter->is_vector()) continue;
    const Tensor &A = a->second, &B = adapter.tensors.at(module + ".lora_B.weight");
    for (int64_t o = 0; o < B.dim(0); ++o)
      for (int64_t i = 0; i < A.dim(1); ++i)
        for (int64_t k = 0; k < A.dim(0); ++k)
          named.parameter->value.host<float>()[o * A.dim(1) + i] +=
              static_cast<float>(scale) * B.host<float>()[o * B.dim(1) + k] * A.host<float>()[k * A.dim(1) + i];
  }
  return logits_of(loaded);
}

// Whether the first folder has the weights of the second in bf16: 8 bits, rounded to nearest.
bool are_rounded(const std::string& narrow, const std::string& wide) {
  std::map<std::string, StoredTensor> of_wide;
  for (const StoredTensor& t : read_safetensors(wide + "/model.safetensors")) of_wide[t.name] = t;
  for (const StoredTensor& t : read_safetensors(narrow + "/model.safetensors")) {
    if (t.dtype != DType::bf16 || !of_wide.contains(t.name)) return false;
    for (size_t i = 0; i < t.bytes / 2; ++i) {
      uint16_t bits = 0;
      float value = 0;
      std::memcpy(&bits, t.data + 2 * i, sizeof bits);
      std::memcpy(&value, of_wide[t.name].data + 4 * i, sizeof value);
      if (bits != f32_to_bf16(value)) return false;
    }
    of_wide.erase(t.name);
  }
  return of_wide.empty();
}

// Both sides round some hundred products through two blocks: see test_goldens.cpp, whose bound this is.
constexpr double kTolerance = 1e-4;

}  // namespace

TEST_CASE("an adapter adds alpha / r B A to the weights that it names, under each of PEFT's prefixes") {
  WrittenAdapter adapter;
  const std::vector<float> want = logits_of_edited_weights(adapter, 3.0 / 2.0);
  CHECK(relative_error(want, logits_of(load_model(golden_path("llama_untied_gqa")))) > 0.1);
  CHECK(relative_error(logits_of(adapter.load()), want) < kTolerance);
  CHECK(relative_error(logits_of(adapter.load({.trainable = true})), want) < kTolerance);
  adapter.prefix = "";
  CHECK(relative_error(logits_of(adapter.load()), want) < kTolerance);
  // Of an adapter of the model without its head.
  adapter.prefix = "base_model.model.";
  for (const std::string name : {"layers.0.self_attn.q_proj", "layers.1.mlp.down_proj"})
    for (const std::string part : {".lora_A.weight", ".lora_B.weight"}) {
      auto node = adapter.tensors.extract("model." + name + part);
      node.key() = name + part;
      adapter.tensors.insert(std::move(node));
    }
  adapter.config["target_modules"] = {"layers.0.self_attn.q_proj", "1.mlp.down_proj"};
  CHECK(relative_error(logits_of(adapter.load()), want) < kTolerance);
}

TEST_CASE("rank and alpha by module, and the scale of rank-stabilised adapters") {
  WrittenAdapter adapter;
  adapter.config["use_rslora"] = true;
  CHECK(relative_error(logits_of(adapter.load()), logits_of_edited_weights(adapter, 3.0 / std::sqrt(2.0))) <
        kTolerance);
  adapter.config.erase("use_rslora");
  adapter.config["rank_pattern"] = {{"mlp\\.\\w+", 1}, {"down_proj", 5}};  // the first one holds
  adapter.config["alpha_pattern"] = {{"q_proj", 8}};
  adapter.tensors["model.layers.1.mlp.down_proj.lora_A.weight"] = random_matrix(1, 48, 3);
  adapter.tensors["model.layers.1.mlp.down_proj.lora_B.weight"] = random_matrix(32, 1, 4);
  const LoadedModel loaded = adapter.load();
  const std::vector<AdaptedModule>& modules = loaded.model->adapter->modules;
  REQUIRE(modules.size() == 2);
  CHECK(modules[0].changes[0].scale == 8.0 / 2.0);
  CHECK(modules[1].changes[0].scale == 3.0 / 1.0);
  CHECK(modules[1].a[0].shape == Shape{1, 48});
}

TEST_CASE("a regular expression names modules by their whole names") {
  WrittenAdapter adapter;
  adapter.config["target_modules"] = R"(model\.layers\.(0\.self_attn\.q|1\.mlp\.down)_proj)";
  const std::vector<float> want = logits_of_edited_weights(adapter, 3.0 / 2.0);
  CHECK(relative_error(logits_of(adapter.load()), want) < kTolerance);
  adapter.config["target_modules"] = "q_proj|down_proj";
  adapter.refused("target_modules: 'q_proj|down_proj' names no module of this model");
}

TEST_CASE("keys of an adapter's configuration that would change the result are refused by name") {
  const auto refused = [](const std::string& key, const Json& value, const std::string& message) {
    WrittenAdapter adapter;
    adapter.config[key] = value;
    INFO(key);
    adapter.refused(message);
  };
  refused("use_dora", true, "use_dora is true, which is not supported");
  refused("modules_to_save", {"lm_head"}, R"(modules_to_save is ["lm_head"], which is not supported)");
  refused("bias", "all", R"(bias is "all", which is not supported)");
  refused("lora_bias", true, "lora_bias is true");
  refused("init_lora_weights", "pissa", R"(init_lora_weights is "pissa")");
  refused("layer_replication", {{0, 1}}, "layer_replication is [[0,1]]");
  refused("trainable_token_indices", {5}, "trainable_token_indices is [5]");
  refused("ensure_weight_tying", true, "ensure_weight_tying is true");
  refused("a_key_of_tomorrow", 3, "a_key_of_tomorrow is 3, which is not supported");
  refused("peft_type", "IA3", R"(peft_type is "IA3")");
  refused("task_type", "SEQ_CLS", R"(task_type is "SEQ_CLS")");
  refused("r", 0, "r: expected an integer from 1");
  refused("lora_dropout", 1.5, "lora_dropout: expected a number of at least 0 and below 1");
  refused("target_parameters", {"experts.down_proj"}, "'experts.down_proj' names no module of this model");
  // What says nothing is passed over; dropout is of training.
  WrittenAdapter adapter;
  for (const char* key : {"use_dora", "lora_bias"}) adapter.config[key] = false;
  for (const char* key : {"modules_to_save", "layer_replication", "a_key_of_tomorrow"}) adapter.config[key] = nullptr;
  adapter.config["lora_dropout"] = 0.1;
  adapter.config["init_lora_weights"] = "gaussian";
  CHECK(adapter.load().model->adapter->modules.size() == 2);
}

TEST_CASE("each tensor of an adapter is used and each target has its own") {
  {
    WrittenAdapter adapter;
    adapter.tensors["model.layers.0.self_attn.k_proj.lora_A.weight"] = random_matrix(2, 32, 1);
    adapter.refused("has the tensor 'base_model.model.model.layers.0.self_attn.k_proj.lora_A.weight', which no target");
  }
  {
    WrittenAdapter adapter;
    adapter.config["target_modules"] = {"q_proj", "1.mlp.down_proj"};
    adapter.refused("lacks the tensor base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight");
  }
  {
    WrittenAdapter adapter;
    adapter.tensors["model.layers.0.self_attn.q_proj.lora_B.weight"] = random_matrix(16, 2, 2);
    adapter.refused("q_proj.lora_B.weight' is (16, 2), expected (32, 2)");
  }
  {
    WrittenAdapter adapter;
    adapter.tensors["model.layers.0.self_attn.q_proj.lora_B.weight"] = Tensor::zeros({32, 2}, DType::i32);
    adapter.refused("is I32, expected F32, F16 or BF16");
  }
  WrittenAdapter adapter;
  adapter.config["target_modules"] = {"q_proj", "down_prj"};
  adapter.write();
  try {
    adapter.load();
    FAIL("not refused");
  } catch (const Error& e) {
    CHECK_THAT(e.what(), ContainsSubstring("adapter_config.json: target_modules: 'down_prj' names no module"));
    CHECK(e.hint() == "did you mean down_proj?");
  }
}

TEST_CASE("a table that PEFT writes beside its change must be the model's") {
  WrittenAdapter adapter;
  adapter.config["target_modules"] = {"embed_tokens"};
  adapter.tensors = {{"model.embed_tokens.lora_embedding_A", random_matrix(2, 61, 1)},
                     {"model.embed_tokens.lora_embedding_B", random_matrix(32, 2, 2)}};
  const std::vector<float> without = logits_of(adapter.load());
  const LoadedModel base = load_model(golden_path("llama_untied_gqa"), {.trainable = true});
  Tensor table = named_parameters(*base.model)[0].parameter->value.clone();
  adapter.tensors["model.embed_tokens.base_layer.weight"] = table;
  CHECK(logits_of(adapter.load()) == without);
  table.host<float>()[5] += 1.0f;
  adapter.refused("is another table than the model's");
}

TEST_CASE("PEFT's own files give PEFT's logits, beside the weights and merged into them") {
  for (const auto& entry : fs::directory_iterator(golden_path("adapters"))) {
    const std::string name = entry.path().filename().string(), adapter = entry.path().string();
    INFO(name);
    const auto expected = read_safetensors(adapter + "/expected.safetensors");
    std::vector<float> want(expected[0].bytes / sizeof(float));
    std::memcpy(want.data(), expected[0].data, expected[0].bytes);
    std::vector<int32_t> tokens;
    for (const StoredTensor& t : read_safetensors(golden_path(name) + "/expected.safetensors"))
      if (t.name == "tokens") {
        tokens.resize(t.bytes / sizeof(int32_t));
        std::memcpy(tokens.data(), t.data, t.bytes);
      }
    const LoadOptions options{.dtype = ComputeDtype::float32, .adapter = adapter};
    const LoadedModel loaded = load_model(golden_path(name), options);
    CHECK(relative_error(logits_of(loaded, tokens), want) < kTolerance);

    const TemporaryDirectory place;
    const auto merged = [&](const std::string& output, const ExportOptions& more) {
      ExportOptions to = more;
      to.adapter = adapter;
      export_model(golden_path(name), (place.path() / output).string(), to);
      return logits_of(load_model((place.path() / output).string(), {.dtype = ComputeDtype::float32}), tokens);
    };
    CHECK(relative_error(merged("float32", {.dtype = DType::f32}), want) < kTolerance);
    CHECK(relative_error(merged("float32.gguf", {.dtype = DType::f32}), want) < kTolerance);
    merged("bfloat16", {.dtype = DType::bf16});
    CHECK(are_rounded((place.path() / "bfloat16").string(), (place.path() / "float32").string()));
  }
}

TEST_CASE("an adapter is written as it was read") {
  for (const auto& entry : fs::directory_iterator(golden_path("adapters"))) {
    const std::string name = entry.path().filename().string();
    INFO(name);
    const LoadedModel loaded = load_model(golden_path(name), {.trainable = true, .adapter = entry.path().string()});
    const TemporaryDirectory place;
    const std::string again = (place.path() / "again").string();
    write_adapter(*loaded.model, {"base", "0123"}, again);
    std::map<std::string, std::string> metadata;
    std::map<std::string, StoredTensor> written;
    for (const StoredTensor& t : read_safetensors(again + "/adapter_model.safetensors", &metadata)) written[t.name] = t;
    CHECK(metadata["format"] == "pt");
    for (const StoredTensor& t : read_safetensors(entry.path().string() + "/adapter_model.safetensors")) {
      if (t.name.ends_with("base_layer.weight")) continue;  // the base's own
      INFO(t.name);
      REQUIRE(written.contains(t.name));
      CHECK(written[t.name].shape == t.shape);
      CHECK(std::memcmp(written[t.name].data, t.data, t.bytes) == 0);
      written.erase(t.name);
    }
    CHECK(written.empty());
    const Json config = Json::parse(read_file(again + "/adapter_config.json"));
    CHECK(config["fan_in_fan_out"] == (name == "gpt2"));
    CHECK(config["base_model_name_or_path"] == "base");
  }
}

TEST_CASE("merged into a tied model, a change of the table or of the head parts the two") {
  const std::string adapter = golden_path("adapters/llama_tied_llama3_rope");
  const TemporaryDirectory place;
  const std::string output = (place.path() / "merged").string();
  const std::vector<std::string> remarks =
      export_model(golden_path("llama_tied_llama3_rope"), output, {.dtype = DType::f32, .adapter = adapter});
  CHECK(std::any_of(remarks.begin(), remarks.end(), [](auto& r) { return r.find("tied no longer") != r.npos; }));
  const LoadedModel merged = load_model(output);
  CHECK_FALSE(merged.model->config.tie_word_embeddings);
  // A change of other weights leaves them tied.
  const LoadedModel loaded = load_model(golden_path("llama_tied_llama3_rope"), {.trainable = true});
  AdapterConfig config;
  config.targets = {"v_proj"};
  attach_adapter(*loaded.model, config, "test");
  initialise_adapter(*loaded.model, 1);
  write_adapter(*loaded.model, {}, (place.path() / "v").string());
  export_model(golden_path("llama_tied_llama3_rope"), (place.path() / "tied").string(),
               {.adapter = (place.path() / "v").string()});
  CHECK(load_model((place.path() / "tied").string()).model->config.tie_word_embeddings);
}

TEST_CASE("merging says how much of a change a block format keeps") {
  WrittenAdapter adapter;
  const TemporaryDirectory place;
  // Weights that lie on the format's own steps: what is far below one is rounded away, what is far above one is kept.
  const std::string base = (place.path() / "base.gguf").string();
  export_model(golden_path("llama_untied_gqa"), base, {.quantize = DType::q4_0});
  const auto kept = [&](float size, const std::string& output) {
    for (auto& [name, tensor] : adapter.tensors)
      if (name.ends_with("lora_B.weight"))
        for (int64_t i = 0; i < tensor.elements(); ++i) tensor.host<float>()[i] *= size;
    adapter.write();
    const auto remarks =
        export_model(base, (place.path() / output).string(), {.quantize = DType::q4_0, .adapter = adapter.folder});
    const auto said =
        std::find_if(remarks.begin(), remarks.end(), [](auto& r) { return r.starts_with("q4_0 keeps "); });
    REQUIRE(said != remarks.end());
    return std::stod(said->substr(11));
  };
  CHECK(kept(1e-4f, "small.gguf") < 5.0);
  CHECK(kept(1e5f, "large.gguf") > 95.0);
}

TEST_CASE("a fresh adapter changes nothing, and its values are functions of seed and name") {
  const std::vector<float> base = logits_of(load_model(golden_path("gpt2"), {.trainable = true}));
  const auto fresh = [](uint64_t seed, const std::vector<std::string>& targets) {
    LoadedModel loaded = load_model(golden_path("gpt2"), {.trainable = true});
    AdapterConfig config;
    config.rank = 4;
    config.targets = targets;
    attach_adapter(*loaded.model, config, "test");
    initialise_adapter(*loaded.model, seed);
    return loaded;
  };
  const LoadedModel a = fresh(1, {"c_attn", "wte", "lm_head"}), b = fresh(1, {"c_attn"}), c = fresh(2, {"c_attn"});
  CHECK(logits_of(a) == base);
  const auto values = [](const LoadedModel& loaded, const std::string& name) {
    for (const NamedParameter& p : adapter_parameters(*loaded.model))
      if (p.name == name)
        return std::vector<float>(p.parameter->value.host<float>(),
                                  p.parameter->value.host<float>() + p.parameter->value.elements());
    throw std::runtime_error("no " + name);
  };
  const std::string name = "transformer.h.0.attn.c_attn.lora_A.weight";  // one A for q, k and v
  CHECK(values(a, name) == values(b, name));
  CHECK(values(b, name) != values(c, name));
  // Uniform in +-1 / sqrt(32): variance 1 / (3 * 32), of 128 numbers within some tenths.
  double squares = 0.0;
  for (const float x : values(a, name)) {
    CHECK(std::abs(x) <= 1.0f / std::sqrt(32.0f));
    squares += double(x) * x / 128.0;
  }
  CHECK(squares == Catch::Approx(1.0 / 96.0).epsilon(0.3));
  const std::vector<float> table = values(a, "transformer.wte.lora_A.weight");
  CHECK(std::all_of(table.begin(), table.end(), [](float x) { return x == 0.0f; }));
  CHECK(values(b, "transformer.h.1.attn.c_attn.lora_B.1.weight").size() == 32 * 4);
}

TEST_CASE("targets on a mixture of experts are named as transformers has them") {
  const auto refused = [](AdapterConfig config, const std::string& message) {
    const LoadedModel loaded = load_model(golden_path("mixtral"));
    CHECK_THROWS_WITH(attach_adapter(*loaded.model, config, "targets"), ContainsSubstring(message));
  };
  refused({.targets = {"w1"}}, "'w1' stands for experts or their router");
  refused({.targets = {"q_proj", "gate"}}, "'gate' stands for experts or their router");
  refused({.pattern = "all-linear"}, "'all-linear' on a mixture of experts");
  refused({.parameters = {"experts.up_proj"}}, "'experts.up_proj' names no module");
  refused({.dropout = 0.1, .parameters = {"experts.down_proj"}}, "a dropout of 0.1, experts have none");
}
