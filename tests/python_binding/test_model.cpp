// The classes that the Python package is made of, used by several threads at once: under the thread sanitizer (`make
// tsan`) this is where the binding's races would be seen.
#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <thread>

#include "python/src/model.h"
#include "tensor/errors.h"
#include "tensor/threads.h"
#include "tests/catch.h"
#include "tests/support.h"

using namespace lathe;
using namespace lathe::python;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;

namespace {

std::shared_ptr<Model> load(bool trainable = false) {
  ModelSettings settings;
  settings.load.dtype = ComputeDtype::float32;
  settings.load.trainable = trainable;
  LoadProgress progress;
  return std::make_shared<Model>((source_dir() / "tests/goldens/llama_untied_gqa").string(), settings, progress);
}

// Some 40 tokens: two whole pages of the cache, so that a prefix can be found again.
std::vector<int32_t> prompt(int32_t first = 3) {
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 40; ++i) ids.push_back((first + 7 * i) % 61);
  return ids;
}

Request request(const Model& model, int64_t tokens, int32_t first = 3) {
  Request r = model.request(prompt(first));
  r.sampling.temperature = 1.0;
  r.sampling.seed = 11;
  r.ignore_eos = true;
  r.max_new_tokens = tokens;
  return r;
}

std::vector<int32_t> answer(const std::shared_ptr<Model>& model, int64_t tokens, int32_t first = 3) {
  return python::Stream(model, request(*model, tokens, first), {}).result({}).tokens;
}

// f(0) to f(count - 1), each on a thread of its own; rethrows nothing: f must not throw.
template <class F>
void together(int count, const F& f) {
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back([&f, i] { f(i); });
  for (std::thread& t : threads) t.join();
}

struct Stop : std::runtime_error {
  Stop() : std::runtime_error("stop") {}
};

}  // namespace

TEST_CASE("of a stream that several threads pull, each event goes to one of them, in order") {
  const std::vector<int32_t> expected = answer(load(), 20);
  const auto model = load();
  python::Stream stream(model, request(*model, 20), {});
  std::vector<std::vector<int32_t>> taken(3);
  together(3, [&](int i) {
    while (const auto event = stream.next({})) taken[static_cast<size_t>(i)].push_back(*event->token);
  });
  size_t count = 0;
  for (const std::vector<int32_t>& part : taken) {
    count += part.size();
    auto at = expected.begin();  // a part is a subsequence of the whole
    for (const int32_t token : part) {
      at = std::find(at, expected.end(), token);
      REQUIRE(at != expected.end());
      ++at;
    }
  }
  CHECK(count == 20);
  CHECK(stream.result({}).tokens == expected);
}

TEST_CASE("threads that generate, look inside and change the thread team get what each gets alone") {
  const auto model = load();
  std::vector<std::vector<int32_t>> alone;
  for (int32_t i = 0; i < 2; ++i) alone.push_back(answer(load(), 12, i));
  const Tensor logits = load()->logits(prompt(), {});  // (40, V)
  std::atomic<int> wrong = 0;
  together(4, [&](int i) {
    for (int round = 0; round < 3; ++round) {
      if (i < 2) {
        wrong += answer(model, 12, i) != alone[static_cast<size_t>(i)];
      } else if (i == 2) {
        const Tensor found = model->logits(prompt(), {});  // (40, V)
        wrong += !std::equal(found.data<float>(), found.data<float>() + found.elements(), logits.data<float>());
      } else {
        const Stillness still;
        set_threads(1 + round % 3);
      }
    }
  });
  CHECK(wrong == 0);
}

TEST_CASE("answers are left and closed while others are computed") {
  const auto model = load();
  const std::vector<int32_t> expected = answer(load(), 20);
  std::atomic<int> wrong = 0;
  together(3, [&](int i) {
    for (int round = 0; round < 3; ++round) {
      python::Stream left(model, request(*model, 20), {});
      left.next({});
      if (i == 0) left.close({});
      if (i == 0) wrong += left.next({}).has_value() || left.result({}).finish_reason != FinishReason::cancelled;
      wrong += answer(model, 20) != expected;
    }
  });
  CHECK(wrong == 0);
}

TEST_CASE("to leave an answer waits for nobody") {
  const auto model = load();
  auto left = std::make_unique<python::Stream>(model, request(*model, 20), Poll());
  bool asked = false;
  model->logits(prompt(), [&] {  // asked while the model computes
    if (!asked) left.reset();
    asked = true;
  });
  CHECK(asked);
  CHECK(answer(model, 20) == answer(load(), 20));
}

TEST_CASE("a closed answer keeps what it had, and an ended one its end") {
  const auto model = load();
  const std::vector<int32_t> expected = answer(model, 5);
  python::Stream cut(model, request(*model, 20), {}), ended(model, request(*model, 5), {});
  const int32_t first = cut.next({})->token.value();
  CHECK(ended.result({}).finish_reason == FinishReason::length);
  ended.close({});
  CHECK(ended.result({}).tokens == expected);
  CHECK(ended.result({}).finish_reason == FinishReason::length);
  cut.close({});
  cut.close({});
  CHECK(cut.result({}).tokens.front() == first);
  CHECK(cut.result({}).tokens.size() < 20);
}

TEST_CASE("what poll throws ends a computation, and the model goes on") {
  const auto model = load(true);
  const Tensor before = model->logits(prompt(), {});  // (40, V)
  const auto at = [](int number) {                    // throws when it is asked for that time
    return [number, asked = 0]() mutable {
      if (++asked == number) throw Stop();
    };
  };
  CHECK_THROWS_AS(model->logits(prompt(), at(2)), Stop);  // asked once for each of two layers
  CHECK_THROWS_AS(model->hidden(prompt(), at(2)), Stop);
  CHECK_THROWS_AS(model->trace(prompt(), "*", at(2)), Stop);
  CHECK_THROWS_AS(model->gradients(prompt(), at(3)), Stop);  // on the way back
  const Tensor after = model->logits(prompt(), {});          // (40, V)
  CHECK(std::equal(after.data<float>(), after.data<float>() + after.elements(), before.data<float>()));
}

TEST_CASE("who waits for a turn or for stillness can be called away") {
  const auto model = load();
  std::atomic<bool> inside = false, leave = false;
  std::thread busy([&] {
    model->logits(prompt(), [&] {
      inside = true;
      while (!leave) std::this_thread::yield();
    });
  });
  while (!inside) std::this_thread::yield();
  const Poll away = [] { throw Stop(); };
  CHECK_THROWS_AS(model->logits(prompt(), away), Stop);
  CHECK_THROWS_AS(Stillness(away), Stop);
  leave = true;
  busy.join();
  const Stillness still;
  CHECK(model->logits(prompt(), {}).dim(0) == 40);  // by the thread that keeps the others out
}

TEST_CASE("a model is not used from within its own computation") {
  const auto model = load();
  CHECK_THROWS_WITH(model->hidden(prompt(), [&] { model->hidden(prompt(), {}); }),
                    ContainsSubstring("computing on this thread already"));
  const auto other = load();
  int64_t rows = 0;
  model->hidden(prompt(), [&] { rows = other->hidden(prompt(), {}).dim(0); });
  CHECK(rows == 40);
}

TEST_CASE("weights that were handed out are written to: no answer uses an earlier one's cache") {
  const auto edit = [](Model& model) {
    for (auto& [name, tensor] : model.parameters())
      if (name.ends_with("k_proj.weight"))
        for (int64_t i = 0; i < tensor.elements(); ++i) tensor.data<float>()[i] *= -2.0f;
  };
  const auto before = load(true), never_asked = load(true);
  const std::vector<int32_t> unedited = answer(before, 12);
  CHECK(python::Stream(before, request(*before, 12), {}).result({}).cached_tokens > 0);
  edit(*before);
  edit(*never_asked);
  const Completion edited = python::Stream(before, request(*before, 12), {}).result({});
  CHECK(edited.cached_tokens == 0);
  CHECK(edited.tokens == answer(never_asked, 12));
  CHECK(edited.tokens != unedited);
  edit(*before);  // and between any two later ones
  edit(*never_asked);
  CHECK(answer(before, 12) == answer(never_asked, 12));
}

TEST_CASE("tokens are checked before they are computed") {
  const auto model = load();
  const std::vector<int32_t> none, outside = {1, 61}, long_one(static_cast<size_t>(model->context()) + 1, 5);
  CHECK_THROWS_WITH(model->logits(none, {}), ContainsSubstring("found none"));
  CHECK_THROWS_WITH(model->hidden(outside, {}), ContainsSubstring("number 1 is 61, the vocabulary has 61"));
  CHECK_THROWS_WITH(model->trace(long_one, "*", {}), ContainsSubstring(fmt::format("found {}", model->context() + 1)));
}
