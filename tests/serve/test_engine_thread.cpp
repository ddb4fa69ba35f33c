// The engine's thread: what it hands out is what the engine alone gives; cancelled and refused work leaves nothing
// behind.
#include <atomic>

#include "generate/generate.h"
#include "tests/catch.h"
#include "tests/serve/tiny_chat.h"

using namespace lathe;
using test::ReadyEngine;
using test::TinyChat;
using test::Told;

namespace {

Request asked(const ChatModel& model, std::vector<int32_t> prompt, int64_t new_tokens, uint64_t seed) {
  Request r = model.request(std::move(prompt));
  r.max_new_tokens = new_tokens;
  r.ignore_eos = true;
  r.sampling.temperature = 1.0;
  r.sampling.seed = seed;
  return r;
}

void wait_until_idle(const EngineThread& thread) {
  while (thread.sequences() > 0 || thread.load().used_pages > 0 || thread.load().running > 0) std::this_thread::yield();
}

}  // namespace

TEST_CASE("submissions side by side are answered as the engine alone answers them") {
  const TinyChat folder;
  const auto alone = folder.load();
  ReadyEngine engine([&] { return folder.load(); }, 64);
  REQUIRE(engine.thread.state() == EngineThread::State::ready);
  std::vector<std::vector<Request>> submissions;
  for (uint64_t seed = 0; seed < 6; ++seed)
    submissions.push_back({asked(*alone, {1, 2, 3}, 8, seed), asked(*alone, {4, static_cast<int32_t>(seed)}, 5, seed)});
  std::vector<Told> told(submissions.size());
  for (size_t i = 0; i < submissions.size(); ++i) engine.thread.submit(submissions[i], told[i].listener());
  for (size_t i = 0; i < submissions.size(); ++i) {
    told[i].wait();
    const auto expected = generate(alone->engine(), submissions[i]).completions;
    REQUIRE(told[i].completions.size() == 2);
    for (const auto& [request, completion] : told[i].completions) {
      CHECK(completion.tokens == expected[request][0].tokens);
      CHECK(completion.text == expected[request][0].text);
    }
  }
  wait_until_idle(engine.thread);
  CHECK(engine.thread.counters().generated_tokens == 6 * 13);
}

TEST_CASE("a cancelled submission frees its pages and says nothing more") {
  const TinyChat folder;
  ReadyEngine engine([&] { return folder.load(); }, 64);
  std::atomic<int> calls = 0;
  std::atomic<bool> begun = false, cancelled = false, finished = false;
  Request long_one = asked(engine.thread.model(), {1, 2, 3}, 60, 1);
  long_one.num_sequences = 8;
  std::vector<EngineThread::Ticket> tickets;
  for (int i = 0; i < 3; ++i)
    tickets.push_back(engine.thread.submit({long_one}, [&](const AnswerEvents& events) {
      begun = true;
      ++calls;
      while (!cancelled) std::this_thread::yield();  // the engine goes no further meanwhile
      finished = finished || events.finished;
    }));
  while (!begun) std::this_thread::yield();
  for (const auto ticket : tickets) engine.thread.cancel(ticket);
  engine.thread.cancel(tickets[0]);  // once more: it is gone
  cancelled = true;
  wait_until_idle(engine.thread);
  CHECK_FALSE(finished);
  const int before = calls;
  Told other;
  engine.thread.submit({asked(engine.thread.model(), {5}, 3, 1)}, other.listener());
  other.wait();
  CHECK(calls == before);
  CHECK(other.completions.at(0).second.tokens.size() == 3);
}

TEST_CASE("more sequences than may wait are refused, and a submission that is alone is not") {
  const TinyChat folder;
  ReadyEngine engine([&] { return folder.load(); }, 4);
  Request many = asked(engine.thread.model(), {1}, 50, 1);
  many.num_sequences = 6;
  Told first;
  std::atomic<bool> refused = false;
  engine.thread.submit({many}, [&, hear = first.listener()](AnswerEvents events) {
    while (!refused) std::this_thread::yield();  // it does not end before
    hear(std::move(events));
  });
  many.num_sequences = 1;
  CHECK_THROWS_AS(engine.thread.submit({many}, {}), BusyError);
  refused = true;
  CHECK(engine.thread.counters().refused == 1);
  first.wait();
  wait_until_idle(engine.thread);
  Told second;
  engine.thread.submit({many}, second.listener());
  second.wait();
  CHECK(second.completions.size() == 1);
}

TEST_CASE("a request's own fault is told at once, and names its field") {
  const TinyChat folder;
  ReadyEngine engine([&] { return folder.load(); }, 4);
  const auto field = [&](const auto& change) {
    Request r = asked(engine.thread.model(), {1}, 5, 1);
    change(r);
    try {
      engine.thread.submit({r}, {});
    } catch (const RequestError& e) {
      return e.field();
    }
    return std::string("none");
  };
  CHECK(field([](Request& r) { r.prompt = {99}; }) == "prompt");
  CHECK(field([](Request& r) { r.prompt.assign(65, 1); }) == "prompt");
  CHECK(field([](Request& r) { r.max_new_tokens = 0; }) == "max_new_tokens");
  CHECK(field([](Request& r) { r.num_sequences = 0; }) == "num_sequences");
  CHECK(field([](Request& r) { r.sampling.top_p = 2; }) == "top_p");
  CHECK(field([](Request& r) { r.stop_strings = {""}; }) == "stop");
  CHECK(field([](Request& r) { r.prompt_logprobs = -1; }) == "logprobs");
  CHECK(engine.thread.sequences() == 0);
}

TEST_CASE("a model that cannot be loaded says why") {
  ReadyEngine engine([]() -> std::unique_ptr<ChatModel> { throw Error("no such model", "look elsewhere"); }, 4);
  CHECK(engine.thread.state() == EngineThread::State::failed);
  CHECK(engine.thread.failure() == "no such model (look elsewhere)");
}
