// A model that does not fit is refused before its weights are read, with what it needs, what there is and what would
// fit; a load shows how far it is and can be ended.
#include <algorithm>
#include <filesystem>

#include "generate/inference_plan.h"
#include "tests/catch.h"
#include "tests/support.h"

namespace {

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

std::string hint_of(const LoadedModel& opened, const PlanRequest& request, size_t available) {
  try {
    check_memory(opened, request, available);
  } catch (const Error& e) {
    CHECK_THAT(e.what(), ContainsSubstring("MB of memory for 64 tokens, expected at most the") &&
                             ContainsSubstring("llama_untied_gqa"));
    return e.hint();
  }
  return "(fits)";
}

}  // namespace

TEST_CASE("memory: what does not fit is refused, with the format that would") {
  const LoadedModel opened = open_model((source_dir() / "tests/goldens/llama_untied_gqa").string());
  const PlanRequest request{64, 1, 64, DType::f32, {}};
  const size_t needed = plan_inference(opened, request).peak();
  CHECK(hint_of(opened, request, needed) == "(fits)");
  CHECK(hint_of(opened, request, 0) == "(fits)");
  CHECK(hint_of(opened, request, 1) == "a smaller model would fit; lathe plan shows what takes how much");
  PlanRequest quantised = request;
  quantised.load.quantize = DType::q8_0;
  const size_t less = plan_inference(opened, quantised).peak();
  REQUIRE(less < needed);
  CHECK(hint_of(opened, request, less) == "it would fit with --quantize q8_0");
  CHECK(fitting_format(opened, request, less) == DType::q8_0);
  PlanRequest trained = request;
  trained.load.trainable = true;
  const auto parameters = static_cast<size_t>(count_parameters(*opened.model));
  CHECK_NOTHROW(check_memory(opened, trained, 8 * parameters));
  CHECK_THROWS_WITH(check_memory(opened, trained, 8 * parameters - 1),
                    ContainsSubstring("for weights in f32 and their gradients"));
}

TEST_CASE("memory: a checkpoint larger than any machine's is refused before it is read") {
  if (kSanitized) return skip("needs more addresses than a sanitizer leaves");
  // One table of 2^43 bytes, none of which the file system stores.
  const TemporaryDirectory folder;
  write_file(folder.path() / "config.json",
             R"({"architectures": ["LlamaForCausalLM"], "vocab_size": 1073741824, "hidden_size": 2048,
                 "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 16})");
  std::string header = "{";
  size_t offset = 0;
  const auto tensor = [&](const std::string& name, size_t rows, size_t columns) {
    const size_t end = offset + 4 * rows * std::max<size_t>(columns, 1);
    header += fmt::format(R"({}"{}":{{"dtype":"F32","shape":[{}{}],"data_offsets":[{},{}]}})", offset == 0 ? "" : ",",
                          name, rows, columns > 0 ? fmt::format(",{}", columns) : "", offset, end);
    offset = end;
  };
  tensor("model.embed_tokens.weight", size_t{1} << 30, 2048);
  tensor("model.norm.weight", 2048, 0);
  const std::string layer = "model.layers.0.";
  for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) tensor(layer + norm + ".weight", 2048, 0);
  for (const char* part : {"q_proj", "k_proj", "v_proj", "o_proj"})
    tensor(layer + "self_attn." + part + ".weight", 2048, 2048);
  for (const char* part : {"gate_proj", "up_proj"}) tensor(layer + "mlp." + part + ".weight", 32, 2048);
  tensor(layer + "mlp.down_proj.weight", 2048, 32);
  header += "}";
  std::string length(8, '\0');
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(header.size() >> (8 * i));
  const fs::path file = folder.path() / "model.safetensors";
  write_file(file, length + header);
  std::error_code error;
  fs::resize_file(file, 8 + header.size() + offset, error);
  if (error) return skip("needs a file system with sparse files of 8 TiB");
  const CommandResult result = run_lathe({"generate", "--model", folder.path().string(), "--tokens", "1"});
  CHECK(result.exit_code == 1);
  CHECK_THAT(result.standard_error, ContainsSubstring("MB of memory for 512 tokens, expected at most the") &&
                                        ContainsSubstring(folder.path().string()));
  CHECK(result.peak_memory < size_t{1} << 30);
}

TEST_CASE("loading says how far it is, and ends where another thread wants it to") {
  const std::string model = (source_dir() / "tests/goldens/llama_untied_gqa").string();
  LoadProgress progress;
  const LoadedModel loaded = load_weights(open_model(model), {}, &progress);
  CHECK(progress.bytes_total > 0);
  CHECK(progress.bytes_read == progress.bytes_total);
  progress.interrupted = true;
  CHECK_THROWS_WITH(load_weights(open_model(model), {}, &progress), ContainsSubstring("llama_untied_gqa: interrupted"));
}
