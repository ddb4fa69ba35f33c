// Writing a model in another form: read back, the logits are the same bits; what is on the way is never half there.
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "config/model_config.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "generate/sequence_cache.h"
#include "llm/export.h"
#include "llm/family.h"
#include "llm/load.h"
#include "tests/catch.h"
#include "tests/support.h"

namespace {

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

// What GGUF cannot say: dynamic and longrope scaling, ALiBi of rounded slopes, another divisor of Gemma 3's scores; of
// the last one, what lies beyond the trained context, with a warning.
const char* const kNoGguf[] = {"llama_dynamic", "llama_longrope", "falcon_rw", "gemma3", "qwen_beyond_context"};

std::vector<float> exported_logits(const std::string& model) {
  LoadOptions options;
  options.dtype = ComputeDtype::float32;
  const LoadedModel loaded = load_model(model, options);
  CHECK(loaded.warnings.empty());
  const std::vector<int32_t> tokens = {3, 14, 15, 9, 26, 5, 35, 8, 9, 7};
  const Tensor l = all_logits(*loaded.model, tokens, DType::f32);
  return {l.data<float>(), l.data<float>() + l.elements()};
}

// The largest difference over the spread of `want`.
double distance(const std::vector<float>& got, const std::vector<float>& want) {
  REQUIRE(got.size() == want.size());
  double worst = 0, sum = 0, squares = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    worst = std::max(worst, std::abs(double(got[i]) - want[i]));
    sum += want[i], squares += double(want[i]) * want[i];
  }
  const double n = static_cast<double>(want.size());
  return worst / std::sqrt(squares / n - sum / n * sum / n);
}

std::vector<std::string> files_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

std::string refusal(const std::string& model, const std::string& output, const ExportOptions& options = {}) {
  try {
    export_model(model, output, options);
    return {};
  } catch (const Error& e) {
    return e.what();
  }
}

}  // namespace

TEST_CASE("export: folder, shards, one file and GGUF give the logits back") {
  for (const std::string& name : goldens()) {
    INFO(name);
    const TemporaryDirectory root;
    const std::string out = root.path().string();
    const std::vector<float> want = exported_logits(golden_path(name));
    export_model(golden_path(name), out + "/folder");
    CHECK(exported_logits(out + "/folder") == want);
    ExportOptions small;
    small.shard_bytes = 10'000;
    export_model(golden_path(name), out + "/shards", small);
    CHECK(fs::exists(out + "/shards/model.safetensors.index.json"));
    CHECK(exported_logits(out + "/shards") == want);
    fs::create_directory(out + "/one");
    export_model(out + "/shards", out + "/one/model.safetensors");
    CHECK(exported_logits(out + "/one/model.safetensors") == want);

    if (std::find(std::begin(kNoGguf), std::end(kNoGguf), name) != std::end(kNoGguf)) continue;
    export_model(golden_path(name), out + "/f32.gguf");
    // The format holds a divisor for each of llama3's frequencies, rounded to f32.
    const bool rounded = name == "llama_tied_llama3_rope";
    CHECK(distance(exported_logits(out + "/f32.gguf"), want) <= (rounded ? 1e-5 : 0.0));
    if (!rounded) {
      export_model(out + "/f32.gguf", out + "/back");
      CHECK(exported_logits(out + "/back") == want);
    }
  }
}

// The golden Gemma 3 with `changes` of its config.json.
std::string gemma3(const fs::path& folder, const nlohmann::json& changes) {
  fs::copy(golden_path("gemma3"), folder);
  auto config = nlohmann::ordered_json::parse(read_file(folder / "config.json"));
  config.update(changes);
  write_file(folder / "config.json", config.dump());
  return folder.string();
}

TEST_CASE("export: a Gemma 3 that GGUF can say comes back from it") {
  for (const nlohmann::json& cap : {nlohmann::json(), nlohmann::json(4.0)}) {
    const TemporaryDirectory root;
    const std::string out = root.path().string();
    // Scores divided by sqrt(D), as llama.cpp does it; the layers have windows by a period of two.
    const std::string source =
        gemma3(root.path() / "source", {{"query_pre_attn_scalar", 12}, {"final_logit_softcapping", cap}});
    const std::vector<float> want = exported_logits(source);
    export_model(source, out + "/g.gguf");
    CHECK(exported_logits(out + "/g.gguf") == want);
    export_model(out + "/g.gguf", out + "/back");
    CHECK(exported_logits(out + "/back") == want);
    const auto config = nlohmann::json::parse(read_file(out + "/back/config.json"));
    CHECK(config["query_pre_attn_scalar"].is_number_integer());
    CHECK(config["final_logit_softcapping"] == cap);
  }
}

TEST_CASE("export: every field that GGUF cannot say is in one message, with the place to mend it") {
  const TemporaryDirectory root;
  const std::string source =
      gemma3(root.path() / "source", {{"layer_types", {"full_attention", "full_attention", "sliding_attention"}}});
  try {
    export_model(source, (root.path() / "x.gguf").string());
    FAIL("expected an Error");
  } catch (const Error& e) {
    CHECK_THAT(e.what(), ContainsSubstring("GGUF of a gemma3_text cannot say 2 fields"));
    CHECK_THAT(e.what(), ContainsSubstring("layer_window is [0,0,8]"));
    CHECK_THAT(e.what(), ContainsSubstring("attention_scale is 0.223"));
    CHECK_THAT(e.hint(), ContainsSubstring("write_gguf"));
  }
  CHECK_THAT(refusal(golden_path("gemma3"), (root.path() / "x.gguf").string()),
             ContainsSubstring("cannot say a field: attention_scale is 0.223"));
  CHECK(files_in(root.path()) == std::vector<std::string>{"source"});
}

TEST_CASE("export: values beyond the range of the new type are refused by the tensor's name") {
  const TemporaryDirectory root;
  const fs::path source = root.path() / "source";
  fs::create_directory(source);
  fs::copy(golden_path("llama_untied_gqa") + "/config.json", source);
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const StoredTensor& t : read_safetensors(golden_path("llama_untied_gqa") + "/model.safetensors"))
    tensors.emplace_back(t.name, Tensor::wrap(t.data, Shape(t.shape.begin(), t.shape.end()), *t.dtype, t.file).clone());
  for (auto& [name, tensor] : tensors)
    if (name.ends_with("layers.1.self_attn.o_proj.weight")) tensor.data<float>()[5] = 3e6f;
  write_safetensors((source / "model.safetensors").string(), tensors);
  ExportOptions half, blocks, wide;
  half.dtype = DType::f16;
  blocks.quantize = DType::q4_0;
  wide.dtype = DType::bf16;
  const auto named = ContainsSubstring("model.layers.1.self_attn.o_proj.weight: row 0 holds 3000000, which ");
  CHECK_THAT(refusal(source.string(), (root.path() / "x").string(), half), named);
  CHECK_THAT(refusal(source.string(), (root.path() / "x.gguf").string(), half), named);
  CHECK_THAT(refusal(source.string(), (root.path() / "x.safetensors").string(), half), named);
  CHECK_THAT(refusal(source.string(), (root.path() / "x.gguf").string(), blocks), named);
  CHECK(files_in(root.path()) == std::vector<std::string>{"source"});
  CHECK(refusal(source.string(), (root.path() / "x.gguf").string(), wide).empty());
}

TEST_CASE("export: narrower types stay within what they round") {
  for (const char* name : {"gpt2", "llama_untied_gqa", "llama_tied_llama3_rope", "llama_biases_head_dim_yarn"}) {
    INFO(name);
    const TemporaryDirectory root;
    const std::string out = root.path().string();
    const std::vector<float> want = exported_logits(golden_path(name));
    for (const DType dtype : {DType::bf16, DType::f16}) {
      ExportOptions options;
      options.dtype = dtype;
      const std::string label(lathe::name(dtype));
      export_model(golden_path(name), out + "/" + label, options);
      CHECK(distance(exported_logits(out + "/" + label), want) < 3e-2);
      export_model(golden_path(name), out + "/" + label + ".gguf", options);
      CHECK(distance(exported_logits(out + "/" + label + ".gguf"), want) < 3e-2);
    }
    // Rows of one block, weights four times as wide as a model's: errors have nothing to cancel against.
    for (const auto& [format, bound] : {std::pair(DType::q8_0, 8e-2), std::pair(DType::q4_k, 0.7)}) {
      ExportOptions options;
      options.quantize = format;
      const std::string path = out + "/" + std::string(lathe::name(format)) + ".gguf";
      export_model(golden_path(name), path, options);
      CHECK(distance(exported_logits(path), want) < bound);
    }
  }
}

TEST_CASE("export: unknown keys, companions and a block format's values survive") {
  const TemporaryDirectory root;
  const fs::path source = root.path() / "source";
  fs::copy(golden_path("llama_untied_gqa"), source);
  auto config = nlohmann::ordered_json::parse(read_file(source / "config.json"));
  config["an_unknown_key"] = {{"with", {1, 2.5, nullptr}}};
  write_file(source / "config.json", config.dump());
  write_file(source / "generation_config.json", R"({"temperature": 0.5})");
  write_file(source / "chat_template.jinja", "{{ messages }}");
  write_file(source / "notes.txt", "not of the model");
  const std::string out = (root.path() / "out").string();
  ExportOptions options;
  options.dtype = DType::bf16;
  export_model(source.string(), out, options);
  CHECK(files_in(out) ==
        std::vector<std::string>{"chat_template.jinja", "config.json", "generation_config.json", "model.safetensors"});
  auto written = nlohmann::ordered_json::parse(read_file(out + "/config.json"));
  CHECK(written["an_unknown_key"] == config["an_unknown_key"]);
  CHECK(written["torch_dtype"] == "bfloat16");
  CHECK(files_in(root.path()) == std::vector<std::string>{"out", "source"});

  // Rows of blocks move as they are, from one GGUF file to another and, widened, to a folder.
  options = {};
  options.quantize = DType::q8_0;
  const std::string a = (root.path() / "a.gguf").string(), b = (root.path() / "b.gguf").string();
  export_model(source.string(), a, options);
  export_model(a, b);
  const auto first = GgufFile::open(a), second = GgufFile::open(b);
  CHECK((first->metadata() == second->metadata()));
  REQUIRE(first->tensors().size() == second->tensors().size());
  for (size_t i = 0; i < first->tensors().size(); ++i) {
    const StoredTensor &x = first->tensors()[i], &y = second->tensors()[i];
    CHECK(x.name == y.name);
    CHECK((x.bytes == y.bytes && std::memcmp(x.data, y.data, x.bytes) == 0));
  }
  export_model(a, (root.path() / "wide").string());
  CHECK(exported_logits((root.path() / "wide").string()) == exported_logits(a));
}

TEST_CASE("export: what cannot be written is refused, and nothing is left behind") {
  const TemporaryDirectory root;
  const std::string out = root.path().string();
  ExportOptions quantised;
  quantised.quantize = DType::q8_0;
  CHECK_THAT(refusal(golden_path("gpt2"), out + "/x", quantised), ContainsSubstring("safetensors has no type q8_0"));
  CHECK_THAT(refusal(golden_path("llama_dynamic"), out + "/x.gguf"),
             ContainsSubstring("rope_scaling is \"dynamic\" and would be read as \"default\""));
  CHECK_THAT(refusal(golden_path("gpt2"), out + "/no/such/x.gguf"), ContainsSubstring("cannot create"));
  CHECK_THAT(refusal(golden_path("gpt2"), out + "/no/such/x"), ContainsSubstring("cannot create the folder"));
  CHECK(files_in(root.path()).empty());
  fs::create_directory(out + "/full");
  write_file(out + "/full/mine.txt", "mine");
  CHECK_THAT(refusal(golden_path("gpt2"), out + "/full"), ContainsSubstring("is not an empty folder"));
  CHECK(files_in(out + "/full") == std::vector<std::string>{"mine.txt"});
  // A damaged source is found before anything is written.
  fs::copy(golden_path("gpt2"), out + "/damaged");
  fs::resize_file(out + "/damaged/model.safetensors", 5000);
  CHECK_FALSE(refusal(out + "/damaged", out + "/y.gguf").empty());
  CHECK(files_in(root.path()) == std::vector<std::string>{"damaged", "full"});
}

TEST_CASE("export: a vocabulary keeps its ids in GGUF") {
  const auto shared = shared_dir();
  if (!shared) return skip("needs ../shared/models");
  const TemporaryDirectory root;
  const std::string path = (root.path() / "stories.gguf").string();
  CHECK(export_model((*shared / "models/stories260K/hf").string(), path).empty());
  const auto file = GgufFile::open(path);
  CHECK(file->require<std::string>("tokenizer.ggml.model") == "llama");
  CHECK(file->require<std::vector<std::string>>("tokenizer.ggml.tokens").size() == 512);
}

TEST_CASE("export: a model in memory that comes from no checkpoint, as training makes it") {
  for (const char* name : {"llama_tied_llama3_rope", "gpt2", "qwen3_moe_plain_layer", "gemma3"}) {
    INFO(name);
    const TemporaryDirectory root;
    const ModelConfig config = read_config_json(golden_path(name) + "/config.json", family_configs());
    const std::unique_ptr<CausalLM> model = family_of(config).make(config);
    initialise(*model, 7);
    write_file(root.path() / "tokenizer_config.json", "{}");
    const auto check_written = [&](const std::string& output) {
      CHECK(export_model(*model, "", output).empty());
      LoadOptions trainable;
      trainable.trainable = true;
      const LoadedModel loaded = load_model(output, trainable);
      const auto want = named_parameters(*model), got = named_parameters(*loaded.model);
      REQUIRE(got.size() == want.size());
      for (size_t i = 0; i < want.size(); ++i) {
        INFO(want[i].name);
        CHECK(got[i].name == want[i].name);
        const Tensor &a = want[i].parameter->value, &b = got[i].parameter->value;
        // A norm less Gemma's offset of 1 is 0: whole in either form.
        const bool norm = want[i].parameter->kind == Parameter::Kind::norm;
        const float offset =
            norm ? static_cast<float>(model->config.norm_offset - loaded.model->config.norm_offset) : 0;
        REQUIRE(a.shape() == b.shape());
        bool equal = true;
        for (int64_t n = 0; n < a.elements(); ++n) equal &= a.data<float>()[n] + offset == b.data<float>()[n];
        CHECK(equal);
      }
    };
    check_written((root.path() / "folder").string());
    if (std::string(name) != "gemma3") check_written((root.path() / "x.gguf").string());
    CHECK(export_model(*model, root.path().string(), (root.path() / "with").string()).empty());
    CHECK(files_in(root.path() / "with") ==
          std::vector<std::string>{"config.json", "model.safetensors", "tokenizer_config.json"});
    prepare_for_inference(*model, Arithmetic::f32);
    CHECK_THROWS_WITH(export_model(*model, "", (root.path() / "packed").string()),
                      ContainsSubstring("model.embed_tokens.weight has no value that could be written"));
  }
}

TEST_CASE("initialise: a parameter's numbers follow from the seed and its name alone") {
  ModelConfig config = read_config_json(golden_path("llama_untied_gqa") + "/config.json", family_configs());
  const auto values = [&](uint64_t seed) {
    const std::unique_ptr<CausalLM> model = family_of(config).make(config);
    initialise(*model, seed);
    for (const NamedParameter& p : named_parameters(*model))
      if (p.name == "model.layers.1.mlp.down_proj.weight")
        return std::vector(p.parameter->value.data<float>(), p.parameter->value.data<float>() + 100);
    return std::vector<float>();
  };
  const std::vector<float> before = values(1);
  CHECK(values(2) != before);
  config.attention_bias = config.qk_norm = true;  // parameters that are visited before it
  CHECK(values(1) == before);
}
