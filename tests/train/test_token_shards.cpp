// Token shards: made once for the same contents, whole or not there, and told apart by all that decides on the ids.
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <set>

#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/formats/gguf_builder.h"
#include "tests/train/data_files.h"
#include "text/tokenizer/byte_alphabet.h"
#include "train/token_shard.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;
namespace fs = std::filesystem;

namespace {

std::set<std::string> shards(const DataFolder& data) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(data.options.cache))
    if (entry.is_regular_file()) names.insert(entry.path().filename().string());
  return names;
}

// No file that is written meanwhile becomes longer: writing fails as on a full disk, by another name.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int);
};

struct CharacterData : DataFolder {
  CharacterData() {
    recipe.tokenizer = "character";
    options.context = 4;
    train("a.txt", "abcabcabcabc");
  }
};

}  // namespace

TEST_CASE("shards: the same contents are tokenised once, whatever the files are called and however old they are") {
  CharacterData data;
  const std::string key = data.open().train->key();
  const auto made = shards(data);
  REQUIRE(made.size() == 1);
  const fs::path shard = fs::path(data.options.cache) / *made.begin();
  const auto written = fs::last_write_time(shard);
  fs::last_write_time(data.recipe.train[0], written - std::chrono::hours(9));
  data.recipe.train = {data.write("b.txt", "abcabcabcabc")};
  CHECK(data.open().train->key() == key);
  data.options.context = 2;  // which decides on rows, not on ids
  CHECK(data.open().train->key() != key);
  CHECK(shards(data) == made);
  CHECK(fs::last_write_time(shard) == written);
}

TEST_CASE("shards: another text, tokenizer, format or treatment of bad lines makes another one") {
  CharacterData data;
  const std::string key = data.open().train->key();
  const auto time = fs::last_write_time(data.recipe.train[0]);
  data.write("a.txt", "abcabcabcabb");  // of the same size and age
  fs::last_write_time(data.recipe.train[0], time);
  CHECK(data.open().train->key() != key);
  CHECK(shards(data).size() == 2);

  data.recipe.train = {data.write("a.jsonl", "{\"text\": \"abc\", \"prompt\": \"a\", \"completion\": \"b\"}")};
  const auto grows = [&] {
    const size_t before = shards(data).size();
    data.open();
    return shards(data).size() - before;
  };
  CHECK(grows() == 1);
  data.recipe.format = DataRecipe::Format::completion;
  CHECK(grows() == 1);
  data.options.skip_bad_lines = true;
  CHECK(grows() == 1);
  data.recipe.tokenizer = fs::path(data.write("t/tokenizer.json", byte_tokenizer({"<|end|>"}))).parent_path().string();
  CHECK(grows() == 1);
  CHECK(grows() == 0);
  data.write("t/tokenizer.json", byte_tokenizer({"<|end|>"}, {"a b"}));
  CHECK(grows() == 1);
  data.write("t/chat_template.jinja", "{{ messages }}");
  CHECK(grows() == 1);
  data.recipe.tokenizer = data.write("t/other.json", byte_tokenizer({"<|end|>"}));
  CHECK(grows() == 1);
  const TrainingData opened = data.open();
  CHECK(Tokenizer::load(opened.tokenizer_folder)->token_id("ab") == std::nullopt);  // which has it as tokenizer.json
}

TEST_CASE("shards: what is left of one, or of another form, is made anew") {
  CharacterData data;
  const std::string key = data.open().train->key();
  const fs::path shard = fs::path(data.options.cache) / *shards(data).begin();
  const std::string whole = read_file(shard);
  for (size_t size = 0; size < whole.size(); ++size) {
    write_file(shard, whole.substr(0, size));
    CHECK(data.open().train->key() == key);
    CHECK(read_file(shard) == whole);
  }
  std::string other = whole;
  other[other.size() - 17] ^= 1;  // of the hash
  write_file(shard, other);
  CHECK(data.open().train->key() != key);
  other = whole;
  other[other.size() - 1] ^= 1;
  write_file(shard, other);
  CHECK(data.open().train->key() == key);
  write_file(shard, whole + whole);  // a footer that does not fit its ids
  CHECK(data.open().train->key() == key);
  CHECK_FALSE(open_token_shard(shard.string(), std::string(32, '0')));
}

TEST_CASE("shards: a disk that fills is an error that names the file, and leaves nothing behind") {
  CharacterData data;
  data.open();
  const auto before = shards(data);
  std::string text;
  for (int i = 0; i < 20000; ++i) text += "abc"[i % 3];
  data.write("a.txt", text);
  {
    const FileSizeLimit limit(10000);
    CHECK_THAT(data.refusal(), ContainsSubstring("write: cannot write " + data.options.cache + "/tokens-") &&
                                   ContainsSubstring("File too large"));
  }
  CHECK(shards(data) == before);
  data.open();
  CHECK(shards(data).size() == before.size() + 1);

  data.options.cache = (data.folder.path() / "a.txt/cache").string();
  CHECK_THAT(data.refusal(), ContainsSubstring("cannot create the folder"));
}

TEST_CASE("shards: a vocabulary is learnt once, of the training files alone") {
  DataFolder data;
  data.recipe.tokenizer_vocab_size = 260;
  data.options.context = 3;
  data.train("a.txt", "abab abab abab abab");
  data.recipe.validation = {data.write("v.txt", "zz zz zz zz zz zz zz zz")};
  const TrainingData opened = data.open();
  CHECK(opened.vocab_size == 260);
  CHECK(opened.tokenizer->token_id("abab"));
  CHECK_FALSE(opened.tokenizer->token_id("zz"));
  CHECK(opened.tokenizer->eos() == 0);
  CHECK(opened.validation->counts().bytes == 22);
  const fs::path file = fs::path(opened.tokenizer_folder) / "tokenizer.json";
  const auto written = fs::last_write_time(file);
  data.open();
  CHECK(fs::last_write_time(file) == written);
}

TEST_CASE("shards: a vocabulary in a GGUF file is known by its metadata, whatever else is in the file") {
  using Gguf = GgufBuilder;
  const auto vocabulary = [](const std::string& last, const std::string& name) {
    std::vector<std::string> tokens, types;
    for (int byte = 0; byte < 256; ++byte) tokens.push_back(bytes_to_alphabet(std::string(1, static_cast<char>(byte))));
    tokens.push_back(last);
    for (size_t i = 0; i < tokens.size(); ++i) types.push_back(Gguf::bytes_of(int32_t{i < 256 ? 1 : 3}));
    Gguf builder;
    builder.entry("general.architecture", "llama").entry("general.name", name).entry("tokenizer.ggml.model", "gpt2");
    builder.entry("tokenizer.ggml.pre", "gpt-2").list("tokenizer.ggml.tokens", Gguf::string, tokens);
    builder.list("tokenizer.ggml.token_type", Gguf::i32, types).list("tokenizer.ggml.merges", Gguf::string, {"a b"});
    return builder.entry("tokenizer.ggml.eos_token_id", uint32_t{256}).build();
  };
  DataFolder data;
  data.options.context = 2;
  data.train("a.jsonl", "{\"text\": \"xyz\"}");
  data.recipe.tokenizer = data.write("m.gguf", vocabulary("<end>", "one"));
  const TrainingData opened = data.open();
  CHECK(opened.tokenizer_folder.empty());
  CHECK(opened.train->counts().end_of_turn_targets == 1);
  data.write("m.gguf", vocabulary("<end>", "two"));
  CHECK(data.open().train->key() == opened.train->key());
  CHECK(shards(data).size() == 1);
  data.write("m.gguf", vocabulary("<stop>", "two"));
  data.open();
  CHECK(shards(data).size() == 2);
}

TEST_CASE("data: what has no tokenizer, or none that can be made, is refused") {
  DataFolder data;
  data.options.context = 2;
  data.train("a.txt", "some text");
  CHECK_THAT(data.refusal(), ContainsSubstring("a.txt is text, and the recipe names no tokenizer | data.tokenizer:"));
  data.recipe.tokenizer = (data.folder.path() / "none.json").string();
  CHECK_THAT(data.refusal(), ContainsSubstring("none.json does not exist"));
  data.recipe.tokenizer = "character";
  data.write("a.txt", "some text\xFF");
  CHECK_THAT(data.refusal(), ContainsSubstring("a.txt") && ContainsSubstring("byte"));
  data.write("a.txt", "");
  CHECK_THAT(data.refusal(), ContainsSubstring("a.txt is empty"));
  data.write("a.txt", "ab");
  CHECK_THAT(data.refusal(), ContainsSubstring("a.txt has 2 tokens, expected at least 3 for a context of 2"));
  data.write("a.txt", "abcdefgh");
  data.recipe.validation_share = 0.1;
  CHECK_THAT(data.refusal(),
             ContainsSubstring("the last 0.1 of " + data.recipe.train[0] + " has 1 token, expected at least 2"));
  data.recipe.validation_share = 0.9;
  CHECK_THAT(data.refusal(), ContainsSubstring("all but the last 0.9 of"));
}
