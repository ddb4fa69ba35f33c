// The scheduler over synthetic time: steps as long as the model of their cost says, and over tens of thousands of
// random traces every request that fits ends, in order, with no page lost and no budget broken (simulate() itself
// checks that after every step).
#include <algorithm>

#include "generate/simulation.h"
#include "tensor/random.h"
#include "tests/catch.h"
#include "tests/support.h"

using namespace lathe;
using Catch::Approx;

namespace {

SimulationOptions with_pages(int64_t pages) {
  SimulationOptions options;
  options.groups = {{0, pages}};
  return options;
}

}  // namespace

TEST_CASE("a step is as long as reading the weights or computing its tokens, whichever is longer") {
  const Simulation one = simulate({{1.5, 10, 3}}, with_pages(64));  // three short steps
  CHECK(one.requests[0].first_token == Approx(1.52));
  CHECK(one.requests[0].end == Approx(1.56));
  CHECK(one.requests[0].longest_gap == Approx(0.02));
  CHECK(one.steps.size() == 3);
  const Simulation chunks = simulate({{0.0, 1000, 1}}, with_pages(64));  // 512 and 488 tokens at 2,000 a second
  CHECK(chunks.requests[0].first_token == Approx(0.256 + 0.244));
  CHECK(chunks.steps[0].new_tokens == 512);
  CHECK(chunks.steps[0].used_pages == 32);
}

TEST_CASE("prompts with equal blocks share their pages, unless that is switched off") {
  const std::vector<TracedRequest> trace = {{0.0, 600, 2, {7, 8}}, {5.0, 600, 2, {7, 9}}, {9.0, 600, 2}};
  SimulationOptions options = with_pages(200);
  const Simulation shared = simulate(trace, options);
  CHECK(shared.requests[0].cached == 0);
  CHECK(shared.requests[1].cached == 512);
  CHECK(shared.requests[2].cached == 0);
  options.scheduler.prefix_cache = false;
  CHECK(simulate(trace, options).requests[1].cached == 0);
}

TEST_CASE("a request that fits no cache is refused with the counts, and the others run") {
  const Simulation s = simulate({{0.0, 100, 1}, {0.0, 10000, 1}, {0.0, 100, 1}}, with_pages(10));
  CHECK(s.requests[1].refused.find("needs 626 pages") != std::string::npos);
  CHECK(s.requests[0].end > 0.0);
  CHECK(s.requests[2].end > 0.0);
  CHECK_THROWS_WITH(simulate({{1.0, 1, 1}, {0.0, 1, 1}}, with_pages(10)),
                    Catch::Matchers::ContainsSubstring("order of their arrival"));
}

TEST_CASE("over random traces everything that fits ends, first come first served, within every budget") {
  constexpr uint64_t kTraces = test::kSanitized ? 1000 : 20000;
  int64_t preemptions = 0, cached = 0, refused = 0, finished = 0;
  for (uint64_t seed = 0; seed < kTraces; ++seed) {
    INFO("seed " << seed);
    uint64_t drawn = 0;
    const auto number = [&](int64_t below) {
      return static_cast<int64_t>(random_uniform(seed, 5, drawn++) * static_cast<double>(below));
    };
    SimulationOptions options;
    options.groups = {{0, 4 + number(12)}};
    if (number(2) == 1) options.groups.push_back({1 + number(40), 4 + number(12)});
    options.scheduler = {1 + number(6), 8 + number(40), number(4) > 0};
    options.block_tokens = 16;
    std::vector<TracedRequest> trace;
    double arrival = 0.0;
    for (int64_t left = 3 + number(8); left > 0; --left) {
      arrival += number(3) == 0 ? 0.1 * static_cast<double>(number(10)) : 0.0;
      trace.push_back({arrival, 1 + number(90), 1 + number(60), {number(2), number(2)}});
    }
    const Simulation simulated = simulate(trace, options);
    double before = 0.0;
    for (size_t i = 0; i < trace.size(); ++i) {
      const SimulatedRequest& r = simulated.requests[i];
      if (!r.refused.empty()) {
        ++refused;
        continue;
      }
      REQUIRE(r.first_token > trace[i].arrival);
      REQUIRE(r.end >= r.first_token);
      REQUIRE(r.first_token >= before);  // nobody overtakes
      before = r.first_token;
      preemptions += r.preemptions, cached += r.cached, ++finished;
    }
  }
  // The traces are worth something only if all of this happened.
  CHECK(finished > 4 * static_cast<int64_t>(kTraces));
  CHECK(preemptions > static_cast<int64_t>(kTraces) / 4);
  CHECK(cached > 10 * static_cast<int64_t>(kTraces));
  CHECK(refused > static_cast<int64_t>(kTraces) / 100);
}
