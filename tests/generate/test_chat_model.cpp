// ChatModel: what lies with a checkpoint, put together, on a golden with a vocabulary of letters and on the demo model.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "generate/chat_model.h"
#include "generate/generate.h"
#include "generate/sequence_cache.h"
#include "tests/catch.h"
#include "tests/support.h"
#include "text/chat_template/encode_chat.h"

using namespace lathe;

namespace {

using Catch::Matchers::ContainsSubstring;

// The tiny Llama with a token a letter, the digits as the rest, and "<s>" and "</s>".
struct TalkingGolden : test::GoldenLlama {
  explicit TalkingGolden(const std::optional<std::string>& chat_template, bool with_tokenizer = true) {
    if (!with_tokenizer) return;
    nlohmann::ordered_json vocabulary = nlohmann::ordered_json::object(), config = {{"eos_token", "</s>"}};
    int id = 0;
    for (const char c : std::string("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456"))
      vocabulary[std::string(1, c)] = id++;
    nlohmann::ordered_json tokenizer = {{"added_tokens", nlohmann::ordered_json::array()}};
    for (const char* special : {"<s>", "</s>"})
      tokenizer["added_tokens"].push_back({{"id", id++}, {"content", special}, {"special", true}});
    tokenizer["model"] = {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", nlohmann::ordered_json::array()}};
    tokenizer["decoder"] = {{"type", "Fuse"}};
    write("tokenizer.json", tokenizer.dump());
    if (chat_template) config["chat_template"] = *chat_template;
    write("tokenizer_config.json", config.dump());
  }
  std::string path() const { return folder.path().string(); }
};

}  // namespace

TEST_CASE("an answer is the greedy text after the rendered question") {
  const TalkingGolden golden("{% for m in messages %}<s>{{ m.content }}{% endfor %}<s>");
  ChatModel model(golden.path(), {ComputeDtype::float32});
  CHECK(model.has_tokenizer());
  ChatTemplate::Inputs inputs = chat_inputs(*model.tokenizer());
  inputs.messages = {{{"role", "user"}, {"content", "bad"}}};
  std::vector<int32_t> text = {59, 1, 0, 3, 59};  // <s> b a d <s>
  CHECK(model.encode(inputs) == text);
  std::string expected;
  while (text.size() < 5 + 12) {
    const Tensor logits = all_logits(*model.loaded().model, text, model.loaded().cache_dtype);
    const int64_t vocabulary = logits.dim(-1);
    const float* last = logits.data<float>() + (logits.rows() - 1) * vocabulary;
    text.push_back(static_cast<int32_t>(std::max_element(last, last + vocabulary) - last));
    if (text.back() == 60) break;  // </s>
    expected += model.tokenizer()->decode({&text.back(), 1});
  }
  CHECK(model.answer("bad", 12) == expected);
  CHECK(model.answer("bad", 12) == expected);  // the engine is used again
}

TEST_CASE("a model without a template or a tokenizer says so, and still takes ids") {
  const TalkingGolden base(std::nullopt);
  ChatModel without_template(base.path());
  CHECK_THROWS_WITH(without_template.answer("bad"), ContainsSubstring("the model has no chat template"));
  const TalkingGolden bare(std::nullopt, false);
  ChatModel without_tokenizer(bare.path());
  CHECK_FALSE(without_tokenizer.has_tokenizer());
  CHECK_THROWS_WITH(without_tokenizer.answer("bad"), ContainsSubstring("tokenizer"));
  Request request = without_tokenizer.request({1, 0, 3});
  request.max_new_tokens = 3;
  request.ignore_eos = true;
  const Completion completion = generate(without_tokenizer.engine(), {request}).completions.at(0).at(0);
  CHECK(completion.tokens.size() == 3);
  CHECK_FALSE(completion.text);
}

TEST_CASE("the demo model answers the question of README") {
  const auto path = test::demo_model();
  if (!path) return test::skip("needs the demo model (make demo)");
  ChatModel model(path->string(), {ComputeDtype::float32});
  CHECK(model.answer("What is the capital of France?") == "The capital of France is Paris.");
}
