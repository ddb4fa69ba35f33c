// Multiple-choice scores against all_logits, and where the border between context and choice lies.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "evaluate/multiple_choice.h"
#include "generate/sequence_cache.h"
#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/evaluate/tiny_llama.h"
#include "tests/support.h"

using namespace lathe;
using Catch::Approx;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr int32_t kSpaceT = 95, kBos = 96;  // the merge " t", and "<s>"

// Every printable ASCII character is a token, in order from the space; so is " t".
std::shared_ptr<const Tokenizer> ascii_tokenizer(bool bos) {
  using Json = nlohmann::json;
  Json vocabulary;
  for (int c = ' '; c <= '~'; ++c) vocabulary[std::string(1, static_cast<char>(c))] = c - ' ';
  vocabulary[" t"] = kSpaceT;
  Json file = {{"version", "1.0"},
               {"added_tokens",
                {{{"id", kBos},
                  {"content", "<s>"},
                  {"single_word", false},
                  {"lstrip", false},
                  {"rstrip", false},
                  {"normalized", false},
                  {"special", true}}}},
               {"normalizer", nullptr},
               {"pre_tokenizer", nullptr},
               {"post_processor", nullptr},
               {"decoder", nullptr},
               {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", Json::array({Json::array({" ", "t"})})}}}};
  if (bos) {
    const Json token = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
    const Json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
               second = {{"Sequence", {{"id", "B"}, {"type_id", 1}}}};
    const Json special = {{"id", "<s>"}, {"ids", {kBos}}, {"tokens", {"<s>"}}};
    file["post_processor"] = {{"type", "TemplateProcessing"},
                              {"single", Json::array({token, text})},
                              {"pair", Json::array({token, text, second})},
                              {"special_tokens", {{"<s>", special}}}};
  }
  const test::TemporaryDirectory folder;
  test::write_file(folder.path() / "tokenizer.json", file.dump());
  test::write_file(folder.path() / "tokenizer_config.json", R"({"bos_token": "<s>"})");
  return Tokenizer::load(folder.path().string());
}

std::vector<int32_t> ids_of(const std::string& text) {
  std::vector<int32_t> ids;
  for (const char c : text) ids.push_back(c - ' ');
  return ids;
}

// log p(ids[from..] | what is before), from all the logits of the row.
double log_probability(const CausalLM& model, const std::vector<int32_t>& ids, size_t from) {
  const Tensor logits = all_logits(model, ids, DType::f32);  // (N, V)
  double total = 0.0;
  for (size_t at = from; at < ids.size(); ++at) {
    const float* row = logits.data<float>() + (static_cast<int64_t>(at) - 1) * logits.dim(1);
    double sum = 0.0;
    for (int64_t v = 0; v < logits.dim(1); ++v) sum += std::exp(static_cast<double>(row[v]));
    total += static_cast<double>(row[ids[at]]) - std::log(sum);
  }
  return total;
}

MultipleChoiceTask task(std::string context, std::vector<std::string> choices, int64_t line = 1) {
  MultipleChoiceTask t;
  t.line = line;
  t.context = std::move(context);
  for (const std::string& choice : choices) t.lengths.push_back(std::max<int64_t>(1, std::ssize(choice) - 1));
  t.choices = std::move(choices);
  return t;
}

std::vector<MultipleChoiceScore> score(const CausalLM& model, const std::vector<MultipleChoiceTask>& tasks,
                                       bool bos = false, int64_t context_limit = 2048) {
  return score_choices(model, DType::f32, *ascii_tokenizer(bos), {"tasks.txt", 0, tasks}, 0, context_limit);
}

}  // namespace

TEST_CASE("a choice's score is the log-probability of its tokens after the context") {
  const auto model = test::tiny_llama(1);
  const std::string context = "The cat sat down. It";
  const std::vector<std::string> choices = {" slept.", " x", " went away again and again and never came back", " is"};
  const auto scores = score(*model, {task(context, choices)});
  REQUIRE(scores.size() == 1);
  std::vector<double> normalised;
  for (size_t c = 0; c < choices.size(); ++c) {
    const double expected = log_probability(*model, ids_of(context + choices[c]), context.size());
    CHECK(scores[0].logprobs[c] == Approx(expected).epsilon(1e-6));
    normalised.push_back(expected / static_cast<double>(choices[c].size() - 1));
  }
  const auto& p = scores[0].logprobs;
  CHECK(scores[0].choice == std::max_element(p.begin(), p.end()) - p.begin());
  CHECK(scores[0].normalised_choice == std::max_element(normalised.begin(), normalised.end()) - normalised.begin());
}

TEST_CASE("what contexts share changes no bit") {
  const bool windowed = GENERATE(false, true);
  const auto model = test::tiny_llama(1, 97, windowed);
  const std::string examples(600, '#');  // more than one pass, and no multiple of a page
  const std::vector<std::string> letters = {" A", " B", " C", " D"};
  const std::vector<MultipleChoiceTask> tasks = {
      task(examples + "first", letters),
      task(examples + "first one", {" yes", " no", " perhaps"}),
      task(examples + "first one", {" no", " yes"}),  // the same context: its last token alone is computed again
      task(examples + "fi", letters),                 // a part of the one before
      task("other", letters),
      task(examples + "first", letters)};
  const auto together = score(*model, tasks);
  REQUIRE(together.size() == tasks.size());
  for (size_t i = 0; i < tasks.size(); ++i) {
    INFO("task " << i << (windowed ? ", windowed" : ""));
    CHECK(together[i].logprobs == score(*model, {tasks[i]})[0].logprobs);
  }
  CHECK(together[1].logprobs[0] == together[2].logprobs[1]);
}

TEST_CASE("with longrope a score does not depend on the other tasks' lengths") {
  const auto model = test::tiny_longrope(1);
  const std::vector<MultipleChoiceTask> tasks = {
      task("Short", {" yes", " no"}), task("Short, and a long question goes on and on", {" yes", " no"}),
      task("Short", {" yes", " no"}), task("Short, and a long question goes on and off", {" no", " yes"})};
  const auto together = score(*model, tasks);
  for (size_t i = 0; i < tasks.size(); ++i) {
    const std::string& context = tasks[i].context;
    for (size_t c = 0; c < tasks[i].choices.size(); ++c) {
      const double expected = log_probability(*model, ids_of(context + tasks[i].choices[c]), context.size());
      CHECK(together[i].logprobs[c] == Approx(expected).epsilon(1e-6));
    }
  }
}

TEST_CASE("the first of equal choices is taken") {
  const auto model = test::tiny_llama(1);
  const auto scores = score(*model, {task("Equal", {" x", " x", " x"})});
  CHECK(scores[0].choice == 0);
  CHECK(scores[0].normalised_choice == 0);
}

TEST_CASE("spaces at the end of a context belong to the choice") {
  const auto model = test::tiny_llama(1);
  std::vector<int32_t> ids = ids_of("Go");
  ids.push_back(kSpaceT);  // " t" is one token, though the space stood in the context
  ids.push_back('o' - ' ');
  const double expected = log_probability(*model, ids, 2);
  CHECK(score(*model, {task("Go ", {"to"})})[0].logprobs[0] == Approx(expected).epsilon(1e-6));
  CHECK(score(*model, {task("Go", {" to"})})[0].logprobs[0] == Approx(expected).epsilon(1e-6));
}

TEST_CASE("BOS stands before the context where the tokenizer puts it") {
  const auto model = test::tiny_llama(1);
  std::vector<int32_t> ids = ids_of("Go on");
  ids.insert(ids.begin(), kBos);
  CHECK(score(*model, {task("Go", {" on"})}, true)[0].logprobs[0] ==
        Approx(log_probability(*model, ids, 3)).epsilon(1e-6));
}

TEST_CASE("a limit takes the first tasks, and Ctrl-C keeps what there is") {
  const auto model = test::tiny_llama(1);
  const MultipleChoiceFile file{"tasks.txt", 0, std::vector<MultipleChoiceTask>(5, task("Go", {" on", " off"}))};
  const auto tokenizer = ascii_tokenizer(false);
  CHECK(score_choices(*model, DType::f32, *tokenizer, file, 3, 2048).size() == 3);
  CHECK(score_choices(*model, DType::f32, *tokenizer, file, 9, 2048).size() == 5);
  const auto stop = [](size_t index, const MultipleChoiceScore&) { return index < 1; };
  CHECK(score_choices(*model, DType::f32, *tokenizer, file, 0, 2048, stop).size() == 2);
}

TEST_CASE("a task that cannot be scored is named by file and line before anything is computed") {
  const auto model = test::tiny_llama(1);
  const MultipleChoiceTask good = task("Go", {" on"});
  const auto message = [&](const MultipleChoiceTask& bad, int64_t context_limit) {
    int64_t scored = 0;
    try {
      score_choices(*model, DType::f32, *ascii_tokenizer(false), {"tasks.txt", 0, {good, bad}}, 0, context_limit,
                    [&](size_t, const MultipleChoiceScore&) { return ++scored > 0; });
    } catch (const Error& e) {
      CHECK(scored == 0);
      return std::string(e.what());
    }
    return std::string("nothing was thrown");
  };
  CHECK_THAT(message(task("Go", {""}, 7), 99),
             ContainsSubstring("tasks.txt: line 7: evaluate: choice \"\" has no token"));
  CHECK_THAT(message(task("", {" on"}, 7), 99), ContainsSubstring("line 7: evaluate: the context has no tokens"));
  CHECK_THAT(message(task("12345", {" on"}, 13), 7), ContainsSubstring("line 13: evaluate: the task has 8 tokens"));
  CHECK_THAT(message(task("Go\xff", {" on"}, 13), 99), ContainsSubstring("tasks.txt: line 13: "));
  CHECK_THROWS_WITH(score(*model, {}), ContainsSubstring("tasks.txt has no tasks"));
}
