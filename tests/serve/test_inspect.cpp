// Looking into a model through the server: the numbers are those of the API, of `lathe trace` and of arithmetic in
// double; work between steps comes in turns; the page is part of the program.
#include <cmath>
#include <filesystem>
#include <future>
#include <nlohmann/json.hpp>
#include <set>

#include "autograd/ops.h"
#include "config/model_config.h"
#include "generate/generate.h"
#include "llm/trace.h"
#include "serve/endpoints.h"
#include "serve/inspect.h"
#include "serve/logprobs.h"
#include "serve/page.h"
#include "tests/catch.h"
#include "tests/serve/tiny_chat.h"

using namespace lathe;

namespace {

using SeenJson = nlohmann::ordered_json;

struct Looked {
  std::unique_ptr<test::ReadyEngine> engine;
  std::unique_ptr<ServedModel> model;

  explicit Looked(const std::string& path)
      : engine(std::make_unique<test::ReadyEngine>(
            [path] { return std::make_unique<ChatModel>(path, LoadOptions{ComputeDtype::float32}); }, 8)),
        model(std::make_unique<ServedModel>(ServedModel{"tiny", engine->thread, 0})) {
    REQUIRE(engine->thread.state() == EngineThread::State::ready);
  }

  // What POST /v1/inspect answers.
  SeenJson ask(const SeenJson& body) const {
    const std::shared_ptr<Inspection> inspection = make_inspection(*model, {body, "body"});
    std::promise<void> done;
    engine->thread.between_steps([&](const Engine& e) {
      if (inspection->work(e)) return true;
      done.set_value();
      return false;
    });
    done.get_future().wait();
    return inspection->json();
  }
  std::string problem(const SeenJson& body) const {
    try {
      make_inspection(*model, {body, "body"});
    } catch (const std::exception& e) {
      return e.what();
    }
    return "";
  }
};

const std::vector<int32_t> kTokens = {5, 17, 3, 40, 8, 22, 1};

// Log-probabilities of each token of the prompt but the first, with the most probable ones, as the engine gives them.
std::vector<TokenLogprobs> scores(const std::string& path) {
  ChatModel model(path, {ComputeDtype::float32});
  Request r = model.request(kTokens);
  r.max_new_tokens = 1;
  r.prompt_logprobs = 3;
  std::vector<TokenLogprobs> found;
  model.engine().submit(r, [&](const GenerationEvent& event) {
    if (!event.prompt_logprobs.empty()) found = event.prompt_logprobs;
  });
  while (!model.engine().idle()) model.engine().step();
  return found;
}

}  // namespace

TEST_CASE("the lens of the last layer is the API's log-probabilities to the bit, in every family") {
  for (const auto& entry : std::filesystem::directory_iterator(test::source_dir() / "tests" / "goldens")) {
    if (!std::filesystem::exists(entry.path() / "model.safetensors")) continue;
    INFO(entry.path().filename().string());
    const Looked looked(entry.path().string());
    const SeenJson seen = looked.ask({{"what", "logit_lens"}, {"tokens", kTokens}, {"top", 3}});
    const std::vector<TokenLogprobs> expected = scores(entry.path().string());
    REQUIRE(std::ssize(seen["layers"]) == looked.model->chat().loaded().model->sizes.num_hidden_layers + 1);
    const SeenJson& positions = seen["layers"].back()["positions"];
    REQUIRE(positions.size() == kTokens.size());
    REQUIRE(expected.size() + 1 == kTokens.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      CHECK(positions[i]["next"]["id"] == expected[i].chosen.token);
      CHECK(positions[i]["next"]["logprob"] == expected[i].chosen.logprob);
      for (size_t k = 0; k < 3; ++k) {
        CHECK(positions[i]["top"][k]["id"] == expected[i].top[k].token);
        CHECK(positions[i]["top"][k]["logprob"] == expected[i].top[k].logprob);
      }
    }
    CHECK(positions.back()["next"].is_null());
  }
}

TEST_CASE("the lens of a layer is its residual stream through the norm and the head") {
  const std::string path = (test::source_dir() / "tests" / "goldens" / "llama_untied_gqa").string();
  const Looked looked(path);
  const SeenJson seen = looked.ask({{"what", "logit_lens"}, {"tokens", kTokens}, {"positions", {2, 4}}, {"top", 1}});
  const LoadedModel loaded = load_model(path, {.trainable = true});
  const Tensor stream = trace(*loaded.model, kTokens, "model.layers.0.output")[0].second;  // (N, C)
  std::map<std::string, const Parameter*> parameters;
  for (const NamedParameter& p : named_parameters(*loaded.model)) parameters[p.name] = p.parameter;
  const float* norm = parameters.at("model.norm.weight")->value.host<float>();  // (C)
  const float* head = parameters.at("lm_head.weight")->value.host<float>();     // (V, C)
  const int64_t width = stream.dim(1), vocabulary = loaded.model->sizes.vocab_size;
  CHECK(seen["begin"] == 2);
  CHECK(seen["layers"][1]["layer"] == 0);
  REQUIRE(seen["layers"][1]["positions"].size() == 2);
  for (int64_t at = 2; at < 4; ++at) {
    const float* x = stream.host<float>() + at * width;
    double squares = 0;
    for (int64_t c = 0; c < width; ++c) squares += double{x[c]} * x[c];
    const double scale = 1 / std::sqrt(squares / static_cast<double>(width) + loaded.model->config.norm_eps);
    std::vector<double> logits(static_cast<size_t>(vocabulary));
    double sum = 0;
    for (int64_t v = 0; v < vocabulary; ++v) {
      for (int64_t c = 0; c < width; ++c)
        logits[static_cast<size_t>(v)] += scale * x[c] * norm[c] * head[v * width + c];
      sum += std::exp(logits[static_cast<size_t>(v)]);
    }
    const auto best = std::max_element(logits.begin(), logits.end());
    const SeenJson& of = seen["layers"][1]["positions"][static_cast<size_t>(at - 2)];
    // f32 sums of some 60 products that are less than 1.
    CHECK(of["top"][0]["id"] == best - logits.begin());
    CHECK(std::abs(of["top"][0]["logprob"].get<double>() - (*best - std::log(sum))) < 1e-5);
    const double next = logits[static_cast<size_t>(kTokens[static_cast<size_t>(at + 1)])] - std::log(sum);
    CHECK(std::abs(of["next"]["logprob"].get<double>() - next) < 1e-5);
  }
}

TEST_CASE("attention maps are the probabilities of the trace, to four places") {
  const std::string path = (test::source_dir() / "tests" / "goldens" / "llama_untied_gqa").string();
  const Looked looked(path);
  const SeenJson all = looked.ask({{"what", "attention"}, {"tokens", kTokens}, {"layer", 1}});
  const Tensor expected = trace(*looked.model->chat().loaded().model, kTokens,
                                "model.layers.1.self_attn.probabilities")[0]
                              .second;  // (N, Hq, N)
  const int64_t n = expected.dim(0), heads = expected.dim(1);
  REQUIRE(std::ssize(all["heads"]) == heads);
  CHECK(all["head_count"] == heads);
  for (int64_t h = 0; h < heads; ++h) {
    const SeenJson& rows = all["heads"][static_cast<size_t>(h)]["rows"];
    REQUIRE(std::ssize(rows) == n);
    for (int64_t i = 0; i < n; ++i) {
      REQUIRE(std::ssize(rows[static_cast<size_t>(i)]) == i + 1);
      for (int64_t j = 0; j <= i; ++j) {
        const double p = expected.host<float>()[(i * heads + h) * n + j];
        CHECK(std::abs(rows[static_cast<size_t>(i)][static_cast<size_t>(j)].get<double>() - p) <= 0.5e-4 + 1e-12);
      }
    }
  }
  const SeenJson one = looked.ask({{"what", "attention"}, {"tokens", kTokens}, {"layer", 1}, {"head", 2}});
  REQUIRE(one["heads"].size() == 1);
  CHECK(one["heads"][0] == all["heads"][2]);
}

TEST_CASE("what cannot be looked at is refused by name") {
  const test::TinyChat folder;
  const Looked looked(folder.folder.path().string());
  using Catch::Matchers::ContainsSubstring;
  const SeenJson lens = {{"what", "logit_lens"}, {"prompt", "abc"}};
  const auto with = [](SeenJson body, const SeenJson& more) {
    body.update(more);
    return body;
  };
  CHECK(looked.problem(lens).empty());
  CHECK_THAT(looked.problem(with(lens, {{"what", "soul"}})), ContainsSubstring("logit_lens"));
  CHECK_THAT(looked.problem(with(lens, {{"positions", {0, 4}}})), ContainsSubstring("positions[1]"));
  CHECK_THAT(looked.problem(with(lens, {{"positions", {2, 2}}})), ContainsSubstring("positions[1]"));
  CHECK_THAT(looked.problem(with(lens, {{"top", 0}})), ContainsSubstring("top"));
  CHECK_THAT(looked.problem(with(lens, {{"layer", 0}})), ContainsSubstring("layer"));
  CHECK_THAT(looked.problem({{"what", "logit_lens"}, {"tokens", {1000000}}}), ContainsSubstring("1000000"));
  CHECK_THAT(looked.problem({{"what", "logit_lens"}, {"tokens", std::vector<int>(513, 1)}}), ContainsSubstring("512"));
  CHECK_THAT(looked.problem({{"what", "logit_lens"}}), ContainsSubstring("missing"));
  CHECK_THAT(looked.problem({{"what", "attention"}, {"prompt", "abc"}}), ContainsSubstring("layer is missing"));
  CHECK_THAT(looked.problem({{"what", "attention"}, {"prompt", "abc"}, {"layer", 99}}), ContainsSubstring("layer"));
  CHECK_THAT(looked.problem({{"what", "attention"}, {"tokens", std::vector<int>(512, 1)}, {"layer", 0}}),
             ContainsSubstring("name one head"));
}

TEST_CASE("work between steps goes on beside answers, a piece at a time, and too much of it is refused") {
  const test::TinyChat folder;
  test::ReadyEngine engine([&] { return folder.load(); }, 8);
  std::promise<void> finished;
  std::vector<uint64_t> steps;
  bool submitted = false;
  test::Told told;
  engine.thread.between_steps([&](const Engine&) {
    if (!submitted) {
      submitted = true;
      Request r = engine.thread.model().request({1, 2, 3});
      r.max_new_tokens = 6;
      r.ignore_eos = true;
      engine.thread.submit({r}, told.listener());
    }
    steps.push_back(engine.thread.counters().steps);
    if (engine.thread.counters().steps < 6) return true;
    finished.set_value();
    return false;
  });
  finished.get_future().wait();
  told.wait();
  CHECK(told.completions.size() == 1);
  // No step was made without a piece before it.
  for (size_t i = 1; i < steps.size(); ++i) CHECK(steps[i] - steps[i - 1] <= 1);
  std::promise<void> go;
  const auto gone = go.get_future().share();
  int taken = 0;
  try {
    for (; taken < 40; ++taken)
      engine.thread.between_steps([gone](const Engine&) {
        gone.wait();
        return false;
      });
  } catch (const BusyError&) {}
  CHECK((taken == 32 || taken == 31));  // 31 where the piece above has not been put away yet
  go.set_value();
}

TEST_CASE("the engine's picture has each sequence and each page") {
  const test::TinyChat folder;
  const auto model = folder.load();
  Engine& engine = model->engine();
  Request r = model->request(std::vector<int32_t>(40, 2));
  r.max_new_tokens = 4;
  r.ignore_eos = true;
  r.num_sequences = 2;
  engine.submit(r, [](const GenerationEvent&) {});
  engine.step();
  engine.step();
  const Engine::Picture picture = engine.picture();
  REQUIRE(picture.sequences.size() == 2);
  CHECK(picture.sequences[0].running);
  CHECK(picture.sequences[0].prompt_tokens == 40);
  CHECK(picture.sequences[0].pages == 3);
  REQUIRE(picture.groups.size() == 1);
  const auto count = [&](Engine::Picture::Page kind) {
    return std::count(picture.groups[0].begin(), picture.groups[0].end(), kind);
  };
  using Page = Engine::Picture::Page;
  CHECK(std::ssize(picture.groups[0]) == engine.load().pages);
  CHECK(count(Page::used) + count(Page::shared) == engine.load().used_pages);
  CHECK(count(Page::shared) == 2);  // whole pages of the prompt
  CHECK(count(Page::cached) == engine.load().cached_pages);
  while (!engine.idle()) engine.step();
  CHECK(engine.picture().sequences.empty());
  const auto pages = engine.picture().groups[0];
  CHECK(std::count(pages.begin(), pages.end(), Page::cached) == 2);
}

TEST_CASE("ids beside the log-probabilities of a completion are those of its keys") {
  LegacyLogprobs lists(nullptr, true);
  lists.add_first(7, true);
  lists.add({{3, -1.5f}, {{5, -0.5f}, {3, -1.5f}}});
  const SeenJson taken = lists.take();
  CHECK(taken["token_ids"] == SeenJson({7, 3}));
  CHECK(taken["top_token_ids"][0].is_null());
  CHECK(taken["top_token_ids"][1] == SeenJson({{"token_id:5", 5}, {"token_id:3", 3}}));
  CHECK(taken["top_logprobs"][1].size() == 2);
}

TEST_CASE("the page's files are in the program, and all that they name") {
  std::set<std::string> names;
  for (const PageFile& f : page_files()) names.emplace(f.name);
  CHECK(names.contains("index.html"));
  for (const PageFile& f : page_files()) {
    const bool equal = f.text == test::read_file(test::source_dir() / "modules" / "serve" / "page" / f.name);
    INFO(f.name);
    CHECK(equal);
    for (const std::string_view before : {"\"page/", "from './"})
      for (size_t at = 0; (at = f.text.find(before, at)) != f.text.npos;) {
        at += before.size();
        const std::string name(f.text.substr(at, f.text.find_first_of("'\"", at) - at));
        INFO(f.name << " names " << name);
        CHECK(names.contains(name));
      }
  }
}
