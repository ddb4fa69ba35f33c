// Published vocabularies against published ids; needs ../shared.
#include <fmt/format.h>

#include <filesystem>
#include <random>
#include <sstream>

#include "tests/catch.h"
#include "tests/support.h"
#include "tests/text/tokenizer/small_vocabularies.h"

using namespace lathe;
using namespace lathe::test;
using Ids = std::vector<int32_t>;

namespace {

std::vector<std::string> stress_cases(const std::filesystem::path& shared) {
  std::vector<std::string> cases;
  std::istringstream lines(read_file(shared / "text/stress/utf8_cases.jsonl"));
  for (std::string line; std::getline(lines, line);)
    if (!line.empty()) cases.push_back(Json::parse(line).at("text"));
  return cases;
}

void check_streams(const Tokenizer& tokenizer) {
  std::mt19937 random(23);
  for (int round = 0; round < 200; ++round) {
    Ids ids;
    for (int i = 0; i < 30; ++i)
      ids.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(tokenizer.vocab_size())));
    CHECK(stream(tokenizer, ids) == tokenizer.decode(ids));
  }
}

}  // namespace

TEST_CASE("llama.cpp's test vectors") {
  const auto shared = shared_dir();
  if (!shared) return skip("needs ../shared/tokenizers");
  for (const char* name : {"gpt-2", "llama-bpe", "qwen2", "llama-spm", "phi-3", "mpt", "refact", "deepseek-llm",
                           "qwen35", "gemma-4", "bert-bge"}) {
    const auto path = *shared / "tokenizers/ggml-vocab" / fmt::format("ggml-vocab-{}.gguf", name);
    if (!std::filesystem::exists(path)) return skip("needs " + path.string());
    const auto tokenizer = Tokenizer::load(path.string());
    std::string texts = read_file(path.string() + ".inp");
    std::istringstream expected(read_file(path.string() + ".out"));
    const std::string separator = "\n__ggml_vocab_test__\n";
    int count = 0;
    for (std::string line; std::getline(expected, line);) {
      std::istringstream numbers(line);
      Ids ids;
      for (int32_t id; numbers >> id;) ids.push_back(id);
      const size_t end = texts.find(separator);
      const std::string text = texts.substr(0, end);
      texts.erase(0, end == std::string::npos ? end : end + separator.size());
      INFO(name << ": " << text);
      CHECK(tokenizer->encode(text, kBare) == ids);
      ++count;
    }
    CHECK(count > 40);
    check_streams(*tokenizer);
  }
}

TEST_CASE("published byte-level vocabularies give every text back") {
  const auto shared = shared_dir();
  if (!shared) return skip("needs ../shared/tokenizers");
  for (const char* file : {"gpt2/tokenizer.json", "llama3_1/tokenizer.json", "ggml-vocab/ggml-vocab-qwen2.gguf"}) {
    const auto tokenizer = Tokenizer::load((*shared / "tokenizers" / file).string());
    for (const std::string& text : stress_cases(*shared))
      CHECK(tokenizer->decode(tokenizer->encode(text, kBare)) == text);
    check_streams(*tokenizer);
  }
}

TEST_CASE("one vocabulary in several forms gives the same ids") {
  const auto shared = shared_dir();
  if (!shared) return skip("needs ../shared/tokenizers and ../shared/models");
  const auto tokenizers = *shared / "tokenizers", stories = *shared / "models/stories260K";
  const std::vector<std::vector<std::filesystem::path>> forms = {
      {tokenizers / "llama2_spm/tokenizer.model", tokenizers / "ggml-vocab/ggml-vocab-llama-spm.gguf"},
      {stories / "hf/tokenizer.model", stories / "gguf/stories260K-f32.gguf", stories / "hf"}};
  for (const auto& paths : forms) {
    const auto model = Tokenizer::load(paths[0].string());
    CHECK(model->bos() == 1);
    CHECK(model->eos() == 2);
    check_streams(*model);
    for (size_t i = 1; i < paths.size(); ++i) {
      const auto other = Tokenizer::load(paths[i].string());
      CHECK(other->bos() == 1);
      CHECK(other->eos() == 2);
      check_streams(*other);
      for (const std::string& text : stress_cases(*shared)) {
        if (text.find("<s>") != text.npos || text.find("</s>") != text.npos || text.find("<unk>") != text.npos)
          continue;
        INFO(paths[i].string() << ": " << text);
        const Ids ids = model->encode(text);
        CHECK(other->encode(text) == ids);
        CHECK(model->decode(ids) == text);
        CHECK(other->decode(ids) == "<s>" + (text.empty() ? "" : " " + text));
      }
    }
  }
}

TEST_CASE("a sentencepiece model cut anywhere is an error") {
  const auto shared = shared_dir();
  if (!shared) return skip("needs ../shared/models");
  const auto path = *shared / "models/stories260K/hf/tokenizer.model";
  if (!std::filesystem::exists(path)) return skip("needs " + path.string());
  TemporaryDirectory folder;
  const std::string whole = read_file(path);
  for (size_t length : {size_t{0}, size_t{1}, whole.size() / 3, whole.size() / 2}) {
    write_file(folder.path() / "tokenizer.model", std::string_view(whole).substr(0, length));
    CHECK(load_error(folder.path() / "tokenizer.model") != "");
  }
}
