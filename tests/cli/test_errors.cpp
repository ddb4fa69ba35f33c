// What a user meets when something is wrong: one line that names it, exit code 1, nothing crashed, nothing
// half-written.
//
// Each case runs the program on a copy of a tiny checkpoint (tests/goldens) with one thing broken.
#include <cstdint>
#include <cstring>
#include <filesystem>

#include "tests/catch.h"
#include "tests/support.h"

namespace {

namespace fs = std::filesystem;
using Catch::Matchers::ContainsSubstring;
using lathe::test::CommandResult;
using lathe::test::run_lathe;

struct Checkpoint : lathe::test::GoldenLlama {
  void replace(const std::string& from, const std::string& to) const {
    std::string config = lathe::test::read_file(file("config.json"));
    const size_t at = config.find(from);
    REQUIRE(at != std::string::npos);
    lathe::test::write_file(file("config.json"), config.replace(at, from.size(), to));
  }
  CommandResult logits(const std::string& tokens = "3,4,5") const {
    return run_lathe({"logits", "--model", folder.path().string(), "--tokens", tokens, "--output", output().string()});
  }
  fs::path output() const { return folder.path() / "out.npy"; }
};

// One error line on standard error (a hint line may follow, the start line may stand before), nothing on standard
// output.
void check_error(const CommandResult& result, const std::string& substring, int exit_code = 1) {
  INFO(result.standard_error);
  CHECK(result.exit_code == exit_code);
  CHECK(result.standard_output.empty());
  size_t errors = 0;
  std::string line;
  for (const char c : result.standard_error + "\n") {
    if (c != '\n') {
      line += c;
      continue;
    }
    errors += line.starts_with("lathe: error: ") ? 1 : 0;
    CHECK((line.empty() || line.starts_with("lathe: ") || line.starts_with("  hint: ")));
    line.clear();
  }
  CHECK(errors == 1);
  CHECK_THAT(result.standard_error, ContainsSubstring(substring));
}

}  // namespace

TEST_CASE("the unbroken checkpoint loads") {
  const Checkpoint c;
  const CommandResult result = c.logits();
  INFO(result.standard_error);
  CHECK(result.exit_code == 0);
  CHECK(fs::file_size(c.output()) > 3 * 61 * 4);
}

TEST_CASE("a safetensors file cut at any length is refused by name") {
  const Checkpoint c;
  const std::string whole = lathe::test::read_file(c.file("model.safetensors"));
  uint64_t header = 0;
  std::memcpy(&header, whole.data(), 8);
  for (const size_t length :
       {size_t{0}, size_t{4}, size_t{8}, size_t{9}, 8 + header / 2, 8 + header, whole.size() / 2, whole.size() - 1}) {
    lathe::test::write_file(c.file("model.safetensors"), std::string_view(whole).substr(0, length));
    check_error(c.logits(), "model.safetensors");
    CHECK_FALSE(fs::exists(c.output()));
  }
}

TEST_CASE("a header length beyond the file, and broken offsets and shapes") {
  const Checkpoint c;
  const std::string whole = lathe::test::read_file(c.file("model.safetensors"));
  uint64_t header = 0;
  std::memcpy(&header, whole.data(), 8);
  const auto with_header = [&](const std::string& json) {
    std::string file(8, '\0');
    const uint64_t length = json.size();
    std::memcpy(file.data(), &length, 8);
    return file + json + whole.substr(8 + header);
  };
  SECTION("length") {
    std::string file = whole;
    const uint64_t beyond = whole.size() + 1;
    std::memcpy(file.data(), &beyond, 8);
    lathe::test::write_file(c.file("model.safetensors"), file);
    check_error(c.logits(), "header");
  }
  const auto broken = [&](const std::string& from, const std::string& to) {
    std::string json = whole.substr(8, header);
    const size_t at = json.find(from);
    REQUIRE(at != std::string::npos);
    lathe::test::write_file(c.file("model.safetensors"), with_header(json.replace(at, from.size(), to)));
    check_error(c.logits(), "model.safetensors");
  };
  SECTION("an offset out of range") { broken("\"data_offsets\":[0,", "\"data_offsets\":[900000000,"); }
  SECTION("overlapping offsets") {
    const std::string json = whole.substr(8, header);
    const size_t second = json.find("\"data_offsets\":[", json.find("\"data_offsets\":[0,") + 1);
    const size_t comma = json.find(',', second);
    broken(json.substr(second, comma - second), "\"data_offsets\":[4");
  }
  SECTION("a product of dimensions that overflows") {
    broken("\"shape\":[61,32]", "\"shape\":[4611686018427387904,32]");
  }
  SECTION("no JSON") { broken("{", "["); }
}

TEST_CASE("wrong magic of a GGUF file") {
  const lathe::test::TemporaryDirectory folder;
  const fs::path path = folder.path() / "model.gguf";
  lathe::test::write_file(path, std::string("GGML") + std::string(64, '\0'));
  check_error(run_lathe({"inspect", "--model", path.string()}), "magic");
}

TEST_CASE("configs that cannot be") {
  const Checkpoint c;
  SECTION("an unknown architecture, with the known ones listed") {
    c.replace("LlamaForCausalLM", "YodaForCausalLM");
    const CommandResult result = c.logits();
    check_error(result, "YodaForCausalLM");
    CHECK_THAT(result.standard_error, ContainsSubstring("LlamaForCausalLM"));
    CHECK_THAT(result.standard_error, ContainsSubstring("GPT2LMHeadModel"));
  }
  SECTION("heads that do not divide") {
    c.replace("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3");
    const CommandResult result = c.logits();
    check_error(result, "num_key_value_heads");
    CHECK_THAT(result.standard_error, ContainsSubstring("3"));
  }
  SECTION("an unsupported activation") {
    c.replace("\"silu\"", "\"relu6\"");
    check_error(c.logits(), "relu6");
  }
  SECTION("shapes that differ from the weights'") {
    c.replace("\"intermediate_size\": 48", "\"intermediate_size\": 64");
    check_error(c.logits(), "gate_proj");
  }
  SECTION("no JSON") {
    lathe::test::write_file(c.file("config.json"), "{\"architectures\": [");
    check_error(c.logits(), "config.json");
  }
}

TEST_CASE("each required file is named when it is missing") {
  const Checkpoint c;
  SECTION("the model") {
    const CommandResult result =
        run_lathe({"logits", "--model", "no/such-model", "--tokens", "1", "--output", c.output().string()});
    check_error(result, "no/such-model");
  }
  SECTION("config.json") {
    fs::remove(c.file("config.json"));
    check_error(c.logits(), "config.json");
  }
  SECTION("the weights") {
    fs::remove(c.file("model.safetensors"));
    check_error(c.logits(), "model.safetensors");
  }
  SECTION("a shard") {
    fs::rename(c.file("model.safetensors"), c.file("model-00001-of-00002.safetensors"));
    lathe::test::write_file(c.file("model.safetensors.index.json"),
                            R"({"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}})");
    check_error(c.logits(), "model-00002-of-00002.safetensors");
  }
  SECTION("an index that is no JSON") {
    fs::remove(c.file("model.safetensors"));
    lathe::test::write_file(c.file("model.safetensors.index.json"), "shards");
    check_error(c.logits(), "model.safetensors.index.json");
  }
  SECTION("the tokenizer, when text is asked for") {
    const CommandResult result = run_lathe({"generate", "--model", c.folder.path().string(), "--prompt", "Hello"});
    check_error(result, "tokenizer");
  }
}

TEST_CASE("ids without a tokenizer give ids") {
  const Checkpoint c;
  const CommandResult result = run_lathe({"generate", "--model", c.folder.path().string(), "--tokens", "3,4,5",
                                          "--greedy", "--max-new-tokens", "4", "--ignore-eos", "--json"});
  INFO(result.standard_error);
  CHECK(result.exit_code == 0);
  CHECK_THAT(result.standard_output, ContainsSubstring("\"text\":null"));
}

TEST_CASE("tokens and contexts out of range") {
  const Checkpoint c;
  check_error(c.logits("3,61"), "61");
  check_error(c.logits("-1"), "-1");
  std::string many = "3";
  for (int i = 0; i < 64; ++i) many += ",3";
  const CommandResult result = c.logits(many);
  check_error(result, "65");
  CHECK_THAT(result.standard_error, ContainsSubstring("64"));
  check_error(run_lathe({"generate", "--model", c.folder.path().string(), "--tokens", many}), "65");
}

TEST_CASE("an integer that its option cannot hold is wrong usage, and is never cut") {
  const Checkpoint c;
  for (const auto& [option, value] :
       std::vector<std::pair<std::string, std::string>>{{"--seed", "18446744073709551616"},
                                                        {"--seed", "-3"},
                                                        {"--seed", ""},
                                                        {"--seed", "1.5"},
                                                        {"--top-k", "9223372036854775808"},
                                                        {"--top-k", ""},
                                                        {"--logprobs", "2x"},
                                                        {"--num-sequences", "65537"},
                                                        {"--max-new-tokens", "1e3"}}) {
    INFO(option << " " << value);
    const CommandResult result =
        run_lathe({"generate", "--model", c.folder.path().string(), "--tokens", "3", option, value});
    check_error(result, option, 2);
  }
}

TEST_CASE("wrong usage ends with exit code 2") {
  const Checkpoint c;
  check_error(run_lathe({"logits"}), "--model", 2);
  check_error(run_lathe({"fly"}), "", 2);
  check_error(c.logits("3,x"), "x", 2);
  check_error(run_lathe({"generate", "--model", c.folder.path().string(), "--tokens", "3", "--dtype", "float8"}),
              "float8", 2);
  CHECK(run_lathe({"help", "generate"}).exit_code == 0);
  CHECK(run_lathe({"--help"}).exit_code == 0);
}

TEST_CASE("a misspelt option or command is named, with the nearest one, whatever else is missing") {
  const auto said = [](std::vector<std::string> arguments) {
    const CommandResult result = run_lathe(arguments);
    CHECK(result.exit_code == 2);
    return result.standard_error;
  };
  CHECK_THAT(said({"generate", "--modell", "x", "--prompt", "hi"}),
             ContainsSubstring("the option --modell is not known") && ContainsSubstring("did you mean --model?"));
  CHECK_THAT(said({"generate", "--model", "x", "--promt=hi"}), ContainsSubstring("did you mean --prompt?"));
  CHECK_THAT(said({"tokenizer", "train", "--vocab-sise", "300"}), ContainsSubstring("did you mean --vocab-size?"));
  CHECK_THAT(said({"generte", "--model", "x"}),
             ContainsSubstring("the command generte is not known") && ContainsSubstring("did you mean generate?"));
  CHECK_THAT(said({"generate"}), ContainsSubstring("--model is required"));
}

TEST_CASE("an output that cannot be written leaves nothing behind") {
  const Checkpoint c;
  const fs::path nowhere = c.folder.path() / "no-such-folder" / "out.npy";
  check_error(run_lathe({"logits", "--model", c.folder.path().string(), "--tokens", "3", "--output", nowhere.string()}),
              "no-such-folder");
  CHECK_FALSE(fs::exists(nowhere.parent_path()));
  const fs::path is_folder = c.folder.path() / "folder";
  fs::create_directory(is_folder);
  check_error(
      run_lathe({"trace", "--model", c.folder.path().string(), "--tokens", "3", "--output", is_folder.string()}),
      "folder");
  size_t entries = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(c.folder.path())) ++entries;
  CHECK(entries == 3);  // the two files and the folder: no temporary left
}

TEST_CASE("text that is not UTF-8 is refused with its place") {
  const Checkpoint c;
  lathe::test::write_file(c.file("tokenizer.json"), R"({"added_tokens": [], "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
    "post_processor": null, "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}})");
  const CommandResult result =
      run_lathe({"generate", "--model", c.folder.path().string(), "--prompt-file", "-"}, "ab\xff");
  check_error(result, "UTF-8");
  CHECK_THAT(result.standard_error, ContainsSubstring("2"));
}

TEST_CASE("a device that the program is built without") {
  const Checkpoint c;
  check_error(run_lathe({"logits", "--model", c.folder.path().string(), "--tokens", "3", "--output",
                         c.output().string(), "--device", "cuda"}),
              "CUDA");
}
