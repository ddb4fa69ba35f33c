// Families from shared libraries: the example of examples/plugin computes what it says, and what is no plugin of this
// library is refused by name before anything in it is called.
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "formats/safetensors.h"
#include "generate/sequence_cache.h"
#include "llm/load.h"
#include "llm/plugin.h"
#include "tests/catch.h"
#include "tests/support.h"
#include "tests/thread_ranks.h"

namespace {

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

std::string plugin(const char* name) { return (fs::path(LATHE_PLUGIN_FOLDER) / name).string() + ".so"; }

// The golden Llama as a checkpoint of `architecture`; without attention where its output projections are zero.
std::string write_checkpoint(const fs::path& folder, const char* architecture, const char* model_type,
                             bool with_attention) {
  const fs::path golden = source_dir() / "tests/goldens/llama_untied_gqa";
  nlohmann::json config = nlohmann::json::parse(read_file(golden / "config.json"));
  config["architectures"] = {architecture};
  config["model_type"] = model_type;
  fs::create_directories(folder);
  write_file(folder / "config.json", config.dump());
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const StoredTensor& t : read_safetensors((golden / "model.safetensors").string())) {
    Tensor value = Tensor::zeros(Shape(t.shape.begin(), t.shape.end()), *t.dtype);
    if (with_attention || t.name.find("o_proj") == std::string::npos) std::memcpy(value.raw(), t.data, t.bytes);
    tensors.emplace_back(t.name, value);
  }
  write_safetensors((folder / "model.safetensors").string(), tensors);
  return folder.string();
}

std::string logits(const std::string& model) {
  const TemporaryDirectory folder;
  const std::string output = (folder.path() / "logits.npy").string();
  const CommandResult result = run_lathe({"logits", "--plugin", plugin("toy_family"), "--model", model, "--tokens",
                                          "3,4,5,6", "--dtype", "float32", "--output", output});
  INFO(result.standard_error);
  REQUIRE(result.exit_code == 0);
  return read_file(output);
}

// What the program says of a plugin.
std::string refusal(const std::string& path) {
  const CommandResult result = run_lathe({"models", "--plugin", path});
  CHECK(result.exit_code == 1);
  CHECK(result.standard_output.empty());
  return result.standard_error;
}

}  // namespace

TEST_CASE("plugin: a family in a shared library is a family like any other") {
  const TemporaryDirectory root;
  const std::string toy = write_checkpoint(root.path() / "toy", "ToyForCausalLM", "toy", true);
  const std::string llama = write_checkpoint(root.path() / "llama", "LlamaForCausalLM", "llama", true);
  CHECK(logits(toy) != logits(llama));
  // Where attention adds nothing, side by side and one after the other are the same.
  const std::string mute_toy = write_checkpoint(root.path() / "mute_toy", "ToyForCausalLM", "toy", false);
  const std::string mute_llama = write_checkpoint(root.path() / "mute_llama", "LlamaForCausalLM", "llama", false);
  CHECK(logits(mute_toy) == logits(mute_llama));

  const CommandResult without = run_lathe({"inspect", "--model", toy});
  CHECK(without.exit_code == 1);
  CHECK_THAT(without.standard_error, ContainsSubstring("the architecture 'ToyForCausalLM' is not known"));
  const CommandResult with =
      run_lathe({"inspect", "--model", toy, "--json"}, {}, {"LATHE_PLUGINS=" + plugin("toy_family")});
  INFO(with.standard_error);
  CHECK(with.exit_code == 0);
  const CommandResult trained = run_lathe({"trace", "--gradients", "--model", toy, "--tokens", "3,4,5", "--plugin",
                                           plugin("toy_family"), "--output", (root.path() / "t.safetensors").string()});
  INFO(trained.standard_error);
  CHECK(trained.exit_code == 0);
}

TEST_CASE("plugin: its models are exported to a folder and to GGUF, and read back with the same logits") {
  const TemporaryDirectory root;
  const std::string toy = write_checkpoint(root.path() / "toy", "ToyForCausalLM", "toy", true);
  // Keys that the plugin's own functions read: a window of 3 keys in the layers but the last, for 4 tokens.
  nlohmann::json config = nlohmann::json::parse(read_file(toy + "/config.json"));
  const std::string plain = logits(toy);
  config["sliding_window"] = 3;
  config["embedding_scale"] = 0.5;
  write_file(toy + "/config.json", config.dump());
  const std::string want = logits(toy);
  CHECK(want != plain);
  const auto convert = [&](const std::string& from, const std::string& to) {
    const std::string output = (root.path() / to).string();
    const CommandResult result =
        run_lathe({"convert", "--plugin", plugin("toy_family"), "--model", from, "--output", output});
    INFO(result.standard_error);
    REQUIRE(result.exit_code == 0);
    return output;
  };
  CHECK(logits(convert(toy, "folder")) == want);
  const std::string file = convert(toy, "toy.gguf");
  CHECK(logits(file) == want);
  const std::string back = convert(file, "back");
  CHECK(logits(back) == want);
  const nlohmann::json written = nlohmann::json::parse(read_file(back + "/config.json"));
  CHECK(written["architectures"] == nlohmann::json{"ToyForCausalLM"});
  CHECK(written["sliding_window"] == 3);
  CHECK(written["embedding_scale"] == 0.5);
}

TEST_CASE("plugin: ranks share its models out, of which it need not know") {
  load_plugin(plugin("toy_family"));
  const TemporaryDirectory root;
  const std::string toy = write_checkpoint(root.path() / "toy", "ToyForCausalLM", "toy", true);
  const std::vector<int32_t> tokens = {3, 4, 5, 6};
  const auto logits_on = [&](Communicator& ranks) {
    LoadOptions options;
    options.ranks = &ranks;
    const LoadedModel loaded = load_model(toy, options);
    const Tensor all = all_logits(*loaded.model, tokens, DType::f32);
    return std::vector<float>(all.host<float>(), all.host<float>() + all.elements());
  };
  std::vector<std::vector<float>> of_ranks(2);
  ThreadRanks(2).run([&](Communicator& ranks) { of_ranks[static_cast<size_t>(ranks.rank())] = logits_on(ranks); });
  CHECK(of_ranks[0] == logits_on(Communicator::one()));
  CHECK(of_ranks[1] == of_ranks[0]);
}

TEST_CASE("plugin: named twice it is registered once") {
  const CommandResult result = run_lathe({"models", "--plugin", plugin("toy_family"), "--plugin", plugin("toy_family")},
                                         {}, {"LATHE_PLUGINS=" + plugin("toy_family") + ":"});
  INFO(result.standard_error);
  CHECK(result.exit_code == 0);
  const size_t first = result.standard_output.find("ToyForCausalLM");
  CHECK(first != std::string::npos);
  CHECK(result.standard_output.find("ToyForCausalLM", first + 1) == std::string::npos);
}

TEST_CASE("plugin: what is none is refused by name") {
  const TemporaryDirectory folder;
  const std::string text = (folder.path() / "text.so").string(), cut = (folder.path() / "cut.so").string();
  write_file(text, "not a shared library at all, but long enough for the header of one, which has 64 bytes");
  write_file(cut, read_file(plugin("toy_family")).substr(0, 4096));
  CHECK_THAT(refusal("none.so"), ContainsSubstring("plugin: 'none.so' does not exist"));
  CHECK_THAT(refusal(text), ContainsSubstring("text.so' cannot be loaded: invalid ELF header"));
  CHECK_THAT(refusal(cut), ContainsSubstring("cut.so' is cut off: it has 4096 bytes, expected "));
  CHECK_THAT(refusal(plugin("no_entry")), ContainsSubstring("no_entry.so' has no function lathe_plugin") &&
                                              ContainsSubstring("LATHE_PLUGIN(function)"));
  CHECK_THAT(refusal(plugin("other_abi")),
             ContainsSubstring("was built with 'headers 0123456789abcdef, GCC 1.0, libstdc++ 1', expected headers ") &&
                 ContainsSubstring(kPluginAbi));
  CHECK_THAT(refusal(plugin("taken_name")), ContainsSubstring("the family 'llama' is known already"));
  const CommandResult listed = run_lathe({"models"}, {}, {"LATHE_PLUGINS=" + plugin("no_entry")});
  CHECK(listed.exit_code == 1);
  CHECK(run_lathe({"help", "models"}, {}, {"LATHE_PLUGINS=none.so"}).exit_code == 0);
}

TEST_CASE("register_family: what cannot be is refused") {
  Family whole = families()[0];
  whole.name = "new";
  whole.architectures = {"NewForCausalLM"};
  whole.model_types = {"new"};
  const size_t before = families().size();
  const auto refused = [&](const auto& change, const char* message) {
    Family family = whole;
    change(family);
    CHECK_THROWS_WITH(register_family(family), ContainsSubstring(message));
  };
  refused([](Family& f) { f.make = nullptr; }, "'new' lacks make or weight_mapping");
  refused([](Family& f) { f.weight_mapping = nullptr; }, "'new' lacks make or weight_mapping");
  refused([](Family& f) { f.architectures = {}; }, "'new' has no architecture or no model type");
  refused([](Family& f) { f.model_types = {}; }, "'new' has no architecture or no model type");
  refused([](Family& f) { f.architectures = {"GPT2LMHeadModel"}; }, "the architecture 'GPT2LMHeadModel' is gpt2's");
  refused([](Family& f) { f.model_types = {"new", "gpt2"}; }, "the model type 'gpt2' is gpt2's");
  CHECK(families().size() == before);
}
