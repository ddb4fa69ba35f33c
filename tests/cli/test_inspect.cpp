// lathe inspect and lathe models: what a model requires, whether it is supported, and by which names it is found.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/catch.h"
#include "tests/support.h"

namespace {

namespace fs = std::filesystem;
using lathe::test::source_dir;
using nlohmann::json;

json output_of(std::vector<std::string> arguments) {
  arguments.emplace_back("--json");
  const lathe::test::CommandResult result = lathe::test::run_lathe(arguments);
  INFO(result.standard_error);
  REQUIRE(result.exit_code == 0);
  return json::parse(result.standard_output);
}

}  // namespace

TEST_CASE("inspect: what a configuration requires, by the format of its weights") {
  // Rows of whole blocks of 256: others are stored in q8_0 where q6_k is asked for.
  const json whole = output_of({"inspect", "--config", (source_dir() / "configs/llama/3.2-1b.yaml").string()});
  const json& required = whole["requirements"];
  CHECK(required["tokens"] == 512);
  const auto bytes = [&](const char* format) { return required["memory_bytes_" + std::string(format)].get<double>(); };
  CHECK(bytes("as_stored") > 2.0 * 1235814400);
  CHECK(bytes("q8_0") < bytes("as_stored"));
  CHECK(bytes("q6_k") < bytes("q8_0"));
  CHECK(bytes("q4_0") < bytes("q6_k"));
}

TEST_CASE("inspect: a checkpoint is supported, or it says why not") {
  const fs::path golden = source_dir() / "tests/goldens/llama_untied_gqa";
  CHECK(output_of({"inspect", "--model", golden.string()})["supported"] == "yes");
  const lathe::test::TemporaryDirectory folder;
  fs::copy_file(golden / "model.safetensors", folder.path() / "model.safetensors");
  json config = json::parse(lathe::test::read_file(golden / "config.json"));
  config["intermediate_size"] = 64;
  lathe::test::write_file(folder.path() / "config.json", config.dump());
  const json broken = output_of({"inspect", "--model", folder.path().string()});
  const std::string supported = broken["supported"].get<std::string>();
  CHECK_THAT(supported, Catch::Matchers::StartsWith("no: load: ") &&
                            Catch::Matchers::ContainsSubstring("mlp.gate_proj.weight' is (48, 32), expected (64, 32)"));
  CHECK_FALSE(broken.contains("requirements"));
  CHECK(broken["tensors"].size() > 20);
}

TEST_CASE("inspect: fields that differ from their defaults, and unknown keys with the nearest known one") {
  const fs::path golden = source_dir() / "tests/goldens/gemma3";
  const json shown = output_of({"inspect", "--model", golden.string()})["config"];
  for (const char* field :
       {"attention_scale", "embedding_scale", "norm_offset", "qk_norm", "layer_window", "rope_local_theta"})
    CHECK(shown.contains(field));
  const lathe::test::TemporaryDirectory folder;
  json config = json::parse(lathe::test::read_file(golden / "config.json"));
  config["sliding_windows"] = 3;
  config["sliding_window_patern"] = 2;
  lathe::test::write_file(folder.path() / "config.json", config.dump());
  const std::string path = (folder.path() / "config.json").string();
  CHECK(output_of({"inspect", "--config", path})["unknown_keys"]["sliding_window_patern"] == "sliding_window_pattern");
  CHECK_THAT(lathe::test::run_lathe({"inspect", "--config", path}).standard_output,
             Catch::Matchers::ContainsSubstring("sliding_window_patern (did you mean sliding_window_pattern?)"));
}

TEST_CASE("models: names of published models and their repositories") {
  const json output = output_of({"models"});
  for (const json& family : output["models"]) {
    const json& names = family["names"];
    if (family["family"] == "llama") CHECK(names["llama3.2:1b-instruct"] == "meta-llama/Llama-3.2-1B-Instruct");
    if (family["family"] == "gpt_neox") CHECK(names["pythia:70m-base"] == "EleutherAI/pythia-70m");
  }
}
