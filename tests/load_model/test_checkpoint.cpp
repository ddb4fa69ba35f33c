// Finding and opening what --model names.
#include <fmt/core.h>

#include <cstdlib>
#include <filesystem>

#include "config/model_config.h"
#include "formats/safetensors.h"
#include "llm/registry.h"
#include "load_model/checkpoint.h"
#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/support.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

Checkpoint open_checkpoint(const std::string& model) { return lathe::open_checkpoint(model, family_configs()); }
std::string resolve_model(const std::string& model) { return lathe::resolve_model(model, family_configs()); }

const char* kConfig =
    R"({"architectures": ["LlamaForCausalLM"], "vocab_size": 8, "hidden_size": 4, "intermediate_size": 4,
  "num_hidden_layers": 1, "num_attention_heads": 1})";

void write_model(const fs::path& folder) {
  fs::create_directories(folder);
  write_file(folder / "config.json", kConfig);
  write_safetensors((folder / "model.safetensors").string(), {{"w", Tensor::zeros({2, 3})}});
}

// Sets an environment variable for the life of the object.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    setenv(name, value.c_str(), 1);
  }
  ~Variable() { old_ ? setenv(name_, old_->c_str(), 1) : unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> old_;
};

}  // namespace

TEST_CASE("checkpoint: a folder, its file, its shards") {
  const TemporaryDirectory root;
  write_model(root.path());
  const Checkpoint whole = open_checkpoint(root.path().string());
  CHECK(whole.format == CheckpointFormat::hugging_face);
  CHECK(whole.tensors.size() == 1);
  CHECK(whole.stored_bytes() == 24);
  CHECK(whole.config->vocab_size == 8);
  const Checkpoint file = open_checkpoint((root.path() / "model.safetensors").string());
  CHECK(file.folder == root.path().string());
  CHECK(file.tensors.size() == 1);

  fs::rename(root.path() / "model.safetensors", root.path() / "one.safetensors");
  write_file(root.path() / "model.safetensors.index.json", R"({"weight_map":{"w":"one.safetensors"}})");
  CHECK(open_checkpoint(root.path().string()).tensors.size() == 1);
  fs::remove(root.path() / "one.safetensors");
  CHECK_THROWS_WITH(open_checkpoint(root.path().string()), ContainsSubstring("are missing: one.safetensors"));

  // Whichever shard is named, the model is all of them.
  fs::remove(root.path() / "model.safetensors.index.json");
  const auto shard = [&](int number) { return root.path() / fmt::format("model-{:05}-of-00002.safetensors", number); };
  write_safetensors(shard(1).string(), {{"a", Tensor::zeros({2})}});
  write_safetensors(shard(2).string(), {{"b", Tensor::zeros({3})}});
  CHECK(open_checkpoint(shard(2).string()).tensors.size() == 1);  // no index says that it is one of several
  write_file(root.path() / "model.safetensors.index.json",
             R"({"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}})");
  for (const int named : {1, 2}) CHECK(open_checkpoint(shard(named).string()).tensors.size() == 2);
}

TEST_CASE("checkpoint: the model's files are known, and what else lies there is not among them") {
  const TemporaryDirectory root;
  write_model(root.path());
  fs::rename(root.path() / "model.safetensors", root.path() / "one.safetensors");
  write_file(root.path() / "model.safetensors.index.json", R"({"weight_map":{"w":"one.safetensors"}})");
  for (const char* name : {"tokenizer.json", "LICENSE.md", "notes.txt"}) write_file(root.path() / name, "x");
  std::vector<std::string> names;
  for (const std::string& file : open_checkpoint(root.path().string()).files)
    names.push_back(fs::path(file).filename().string());
  CHECK(names == std::vector<std::string>{"LICENSE.md", "config.json", "model.safetensors.index.json",
                                          "one.safetensors", "tokenizer.json"});
}

TEST_CASE("checkpoint: a folder of the parts of one GGUF file, and one of several files") {
  const TemporaryDirectory root;
  const auto write = [&](const std::string& name, int64_t part, int64_t count) {
    GgufMetadata metadata;
    if (part == 0)
      metadata = {{"general.architecture", std::string("llama")}, {"llama.vocab_size", int64_t{8}},
                  {"llama.embedding_length", int64_t{4}},         {"llama.block_count", int64_t{1}},
                  {"llama.feed_forward_length", int64_t{4}},      {"llama.attention.head_count", int64_t{1}},
                  {"llama.context_length", int64_t{16}}};
    metadata.emplace_back("split.no", part);
    metadata.emplace_back("split.count", count);
    write_gguf((root.path() / name).string(), metadata,
               {{"t" + std::to_string(part), DType::f32, {2}, [] { return Tensor::zeros({2}); }}});
  };
  write("a-00001-of-00002.gguf", 0, 2);
  write("a-00002-of-00002.gguf", 1, 2);
  const Checkpoint c = open_checkpoint(root.path().string());
  CHECK(c.tensors.size() == 2);
  CHECK(c.files.size() == 2);
  CHECK(open_checkpoint((root.path() / "a-00002-of-00002.gguf").string()).config->vocab_size == 8);
  write("b.gguf", 0, 1);
  CHECK_THROWS_WITH(open_checkpoint(root.path().string()), ContainsSubstring("several .gguf files, name one") &&
                                                               ContainsSubstring("a-00001-of-00002.gguf, ") &&
                                                               !ContainsSubstring("a-00002"));
  fs::remove(root.path() / "b.gguf");
  fs::remove(root.path() / "a-00001-of-00002.gguf");
  CHECK_THROWS_WITH(open_checkpoint(root.path().string()),
                    ContainsSubstring("missing: ") && ContainsSubstring("a-00001-of-00002.gguf"));
}

TEST_CASE("checkpoint: every file that is missing is named") {
  const TemporaryDirectory root;
  const auto refusal = [&] {
    try {
      open_checkpoint(root.path().string());
      return std::pair<std::string, std::string>();
    } catch (const Error& e) {
      return std::pair<std::string, std::string>(e.what(), e.hint());
    }
  };
  CHECK_THAT(
      refusal().first,
      ContainsSubstring("lacks config.json and model.safetensors (or model.safetensors.index.json and its shards, or "
                        "pytorch_model.bin"));
  write_file(root.path() / "config.json", kConfig);
  CHECK_THAT(refusal().first, ContainsSubstring("lacks model.safetensors ("));
  write_file(root.path() / "pytorch_model.bin", "x");
  CHECK_THAT(refusal().first, ContainsSubstring("neither a zip archive nor begins with the magic number"));
  fs::remove(root.path() / "pytorch_model.bin");
  write_file(root.path() / "a.gguf", "x");
  CHECK_THAT(refusal().first, ContainsSubstring("magic"));  // the only .gguf is opened
  write_file(root.path() / "b.gguf", "x");
  CHECK_THAT(refusal().first, ContainsSubstring("holds several .gguf files"));

  fs::remove(root.path() / "config.json");
  write_safetensors((root.path() / "x.safetensors").string(), {{"w", Tensor::zeros({2})}});
  CHECK_THROWS_WITH(open_checkpoint((root.path() / "x.safetensors").string()),
                    ContainsSubstring("needs config.json beside it"));
  write_file(root.path() / "notes.txt", "x");
  CHECK_THROWS_WITH(open_checkpoint((root.path() / "notes.txt").string()),
                    ContainsSubstring("ends neither in .gguf nor"));
}

TEST_CASE("checkpoint: names are looked up in the model folders and in the cache") {
  const TemporaryDirectory root;
  const fs::path models = root.path() / "models", cache = root.path() / "hub";
  const Variable lathe_models("LATHE_MODELS", (root.path() / "none").string() + ":" + models.string());
  const Variable hub("HF_HUB_CACHE", cache.string());
  write_model(models / "acme/one");
  write_model(models / "two");
  write_model(models / "llama3.2/1b-instruct");
  write_model(cache / "models--acme--three/snapshots/abc123");
  fs::create_directories(cache / "models--acme--three/refs/pr");
  write_file(cache / "models--acme--three/refs/main", "abc123\n");
  write_file(cache / "models--acme--three/refs/pr/1", "abc123");

  CHECK(resolve_model("acme/one") == (models / "acme/one").string());
  CHECK(resolve_model("acme/two") == (models / "two").string());
  CHECK(resolve_model("two") == (models / "two").string());
  CHECK(resolve_model("llama3.2:1b-instruct") == (models / "llama3.2/1b-instruct").string());
  const std::string snapshot = (cache / "models--acme--three/snapshots/abc123").string();
  CHECK(resolve_model("acme/three") == snapshot);
  CHECK(resolve_model("acme/three@main") == snapshot);
  CHECK(resolve_model("acme/three@abc123") == snapshot);
  CHECK(resolve_model("acme/three@pr/1") == snapshot);
  CHECK(resolve_model(models.string()) == models.string());
  CHECK(open_checkpoint("acme/three").tensors.size() == 1);

  CHECK_THROWS_WITH(resolve_model("acme/four"),
                    ContainsSubstring("the model 'acme/four' is not here: looked for models/acme/four"));
  CHECK_THROWS_WITH(resolve_model("acme/three@old"), ContainsSubstring("snapshots/old"));
  CHECK_THROWS_WITH(resolve_model("acme/one@v2"), ContainsSubstring("is not here"));  // a plain folder has no revisions
  CHECK_THROWS_WITH(resolve_model("qwen3:0.6b"), ContainsSubstring("models/qwen3/0.6b"));

  // A published name is also its repository's.
  CHECK_THROWS_WITH(resolve_model("qwen3:0.6b"), ContainsSubstring("hub/models--Qwen--Qwen3-0.6B/snapshots/main"));
  write_model(models / "Qwen/Qwen3-0.6B");
  CHECK(resolve_model("qwen3:0.6b") == (models / "Qwen/Qwen3-0.6B").string());
  const fs::path smol = cache / "models--HuggingFaceTB--SmolLM2-135M-Instruct";
  write_model(smol / "snapshots/fedcba");
  CHECK(resolve_model("smollm2:135m@fedcba") == (smol / "snapshots/fedcba").string());
  CHECK_THROWS_WITH(resolve_model("smollm2:135m-instruct"), ContainsSubstring("snapshots/main (there are fedcba)"));
  CHECK_THROWS_WITH(resolve_model("smollm2:135m-poet"), ContainsSubstring("expected one of smollm2:135m-instruct"));
  try {
    resolve_model("smollm2:360m@v1");
    FAIL("a model that is not there was found");
  } catch (const Error& e) {
    CHECK_THAT(e.hint(), ContainsSubstring("hf download HuggingFaceTB/SmolLM2-360M-Instruct --revision v1"));
  }
  try {
    resolve_model("smolm2:360m");
    FAIL("a model that is not there was found");
  } catch (const Error& e) {
    CHECK_THAT(e.hint(), ContainsSubstring("did you mean smollm2:360m?"));
  }
  for (const char* path :
       {"/no/such/folder", "none.gguf", "../../x", "", "a/b/c", "acme/..", "acme/three@../x", "acme/three@/x"}) {
    INFO(path);
    CHECK_THROWS_WITH(resolve_model(path), ContainsSubstring("does not exist"));
  }
}

TEST_CASE("checkpoint: generation defaults") {
  const TemporaryDirectory root;
  write_model(root.path());
  const auto defaults = [&] { return open_checkpoint(root.path().string()).generation; };
  CHECK_FALSE(defaults().temperature);
  const auto file = root.path() / "generation_config.json";
  write_file(file,
             R"({"temperature": 0.6, "top_k": 40, "top_p": null, "do_sample": true, "eos_token_id": [3, 4], "x": {}})");
  const GenerationDefaults d = defaults();
  CHECK(d.temperature == 0.6);
  CHECK(d.top_k == 40);
  CHECK_FALSE(d.top_p);
  CHECK(d.do_sample == true);
  CHECK(d.eos_token_ids == std::vector<int64_t>{3, 4});
  write_file(file, R"({"eos_token_id": 7})");
  const Checkpoint opened = open_checkpoint(root.path().string());
  write_file(file, R"({"eos_token_id": 8})");  // what is opened stays as it was
  CHECK(opened.generation.eos_token_ids == std::vector<int64_t>{7});
  write_file(file, R"({"top_k": "x"})");
  CHECK_THROWS_WITH(defaults(), ContainsSubstring("generation_config.json: top_k: expected an integer, found 'x'"));
  write_file(file, R"({"top_k": 9223372036854775808})");
  CHECK_THROWS_WITH(defaults(), ContainsSubstring("top_k: expected an integer, found 9223372036854775808"));
  write_file(file, R"({"temperature": true})");
  CHECK_THROWS_WITH(defaults(), ContainsSubstring("temperature: expected a number, found true"));
  for (const char* id : {"4294967299", "-4294967293", "3.0", "true", "[3, 1e3]", "18446744073709551615"}) {
    INFO(id);
    write_file(file, fmt::format(R"({{"eos_token_id": {}}})", id));
    CHECK_THROWS_WITH(defaults(), ContainsSubstring("generation_config.json: eos_token_id"));
  }
  write_file(file, "[");
  CHECK_THROWS_WITH(defaults(), ContainsSubstring("generation_config.json"));
}

TEST_CASE("checkpoint: real files") {
  const auto shared = shared_dir();
  if (!shared) return skip("needs ../shared/models");
  const auto folder = *shared / "models/stories260K";
  CHECK(open_checkpoint((folder / "hf").string()).tensors.size() == 47);
  CHECK(open_checkpoint((folder / "hf_bf16_sharded").string()).tensors.size() == 47);
  const Checkpoint gguf = open_checkpoint((folder / "gguf/stories260K-q4_0.gguf").string());
  CHECK(gguf.format == CheckpointFormat::gguf);
  CHECK(gguf.gguf);
  CHECK(gguf.generation.eos_token_ids == std::vector<int64_t>{2});
}
