// An output that is one of the inputs is refused, and the input is what it was.
#include <filesystem>

#include "tests/catch.h"
#include "tests/support.h"

namespace {

namespace fs = std::filesystem;
using Catch::Matchers::ContainsSubstring;
using namespace lathe::test;

// The golden Llama in shards, with a companion.
struct ShardedLlama {
  TemporaryDirectory root;
  fs::path folder = root.path() / "m";

  ShardedLlama() {
    const std::string golden = (source_dir() / "tests/goldens/llama_untied_gqa").string();
    REQUIRE(run_lathe({"convert", "--model", golden, "--output", folder.string(), "--shard-size", "20KB"}).exit_code ==
            0);
    write_file(folder / "tokenizer_config.json", "{}");
  }
  std::string first_shard() const {
    for (const auto& entry : fs::directory_iterator(folder))
      if (entry.path().string().find("model-00001-of-") != std::string::npos) return entry.path().string();
    return {};
  }
  // Runs the command with --model and `arguments`; the file `path` must be named and left alone.
  void refused(const std::string& path, std::vector<std::string> arguments) const {
    const std::string before = read_file(path);
    arguments.insert(arguments.begin() + 1, {"--model", folder.string()});
    const CommandResult result = run_lathe(arguments);
    INFO(result.standard_error);
    CHECK(result.exit_code == 1);
    CHECK_THAT(result.standard_error, ContainsSubstring("lathe: error: write: "));
    CHECK_THAT(result.standard_error, ContainsSubstring("read"));
    CHECK(read_file(path) == before);
  }
};

}  // namespace

TEST_CASE("outputs: no file of the model's folder is written over") {
  const ShardedLlama m;
  const std::vector<std::string> inputs = {m.first_shard(), (m.folder / "model.safetensors.index.json").string(),
                                           (m.folder / "config.json").string(),
                                           (m.folder / "tokenizer_config.json").string()};
  for (const std::string& path : inputs) {
    m.refused(path, {"logits", "--tokens", "1,2", "--output", path});
    m.refused(path, {"trace", "--tokens", "1,2", "--output", path});
    m.refused(path, {"generate", "--tokens", "1,2", "--max-new-tokens", "1", "--profile=" + path});
  }
  // One that lies there and is none of the model's is the user's own.
  const std::string own = (m.folder / "logits.npy").string();
  for (int i = 0; i < 2; ++i)
    CHECK(run_lathe({"logits", "--model", m.folder.string(), "--tokens", "1,2", "--output", own}).exit_code == 0);
}

TEST_CASE("outputs: links and other spellings are the same file") {
  const ShardedLlama m;
  const std::string shard = m.first_shard();
  fs::create_hard_link(shard, m.root.path() / "hard.safetensors");
  fs::create_symlink(shard, m.root.path() / "soft.gguf");
  m.refused(shard, {"convert", "--output", (m.root.path() / "hard.safetensors").string()});
  m.refused(shard, {"convert", "--output", (m.root.path() / "soft.gguf").string()});
  m.refused(shard, {"logits", "--tokens", "1", "--output",
                    m.folder.string() + "/../m/" + fs::path(shard).filename().string()});
  CHECK(fs::is_symlink(m.root.path() / "soft.gguf"));
}

TEST_CASE("outputs: a folder that is read, and a file that another option names") {
  const ShardedLlama m;
  const CommandResult itself = run_lathe({"convert", "--model", m.folder.string(), "--output", m.folder.string()});
  CHECK(itself.exit_code == 1);
  CHECK_THAT(itself.standard_error, ContainsSubstring("is not an empty folder"));
  const std::string batch = (m.root.path() / "requests.jsonl").string();
  write_file(batch, R"({"tokens": [1, 2], "max_new_tokens": 1})");
  m.refused(batch, {"generate", "--batch", batch, "--profile", batch});
  const std::string gguf = (m.root.path() / "m.gguf").string();
  REQUIRE(run_lathe({"convert", "--model", m.folder.string(), "--output", gguf}).exit_code == 0);
  const std::string before = read_file(gguf);
  const CommandResult same = run_lathe({"convert", "--model=" + gguf, "--output=" + gguf, "--dtype", "float16"});
  CHECK(same.exit_code == 1);
  CHECK_THAT(same.standard_error, ContainsSubstring("m.gguf is a file that is read"));
  CHECK(read_file(gguf) == before);
}

TEST_CASE("outputs: two of one name are wrong usage") {
  const ShardedLlama m;
  const std::string file = (m.root.path() / "both").string();
  const CommandResult result = run_lathe({"logits", "--model", m.folder.string(), "--tokens", "1,2", "--output", file,
                                          "--profile=" + m.folder.string() + "/../both"});
  CHECK(result.exit_code == 2);
  CHECK_THAT(result.standard_error, ContainsSubstring("--output") && ContainsSubstring("--profile"));
  CHECK_FALSE(fs::exists(file));
}
