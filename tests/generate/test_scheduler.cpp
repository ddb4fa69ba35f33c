// The scheduler and the block manager over random schedules, against an oracle that knows what every slot of the cache
// must hold; and their rules one by one.
#include <map>
#include <memory>

#include "generate/scheduler.h"
#include "tensor/errors.h"
#include "tensor/random.h"
#include "tests/catch.h"
#include "tests/support.h"

using namespace lathe;
using Catch::Matchers::ContainsSubstring;

namespace {

std::unique_ptr<Sequence> make_sequence(uint64_t id, int64_t prompt, int64_t answer) {
  auto s = std::make_unique<Sequence>();
  s->id = id;
  for (int64_t i = 0; i < prompt; ++i) s->tokens.push_back(static_cast<int32_t>(i));
  s->prompt_tokens = prompt;
  s->token_limit = prompt + answer;
  return s;
}

// What the cache holds, slot by slot: the number of the prefix that ends there, or 0.
class OracleRun {
 public:
  OracleRun(std::vector<PageGroup> groups, SchedulerOptions options, uint64_t seed)
      : groups_(groups), options_(options), blocks_(groups), scheduler_(blocks_, options), seed_(seed) {
    for (const PageGroup& g : groups_) slots_.emplace_back(static_cast<size_t>(g.pages * kPageTokens), 0);
  }

  int64_t number(int64_t below) {
    return static_cast<int64_t>(random_uniform(seed_, 0, drawn_++) * static_cast<double>(below));
  }

  // `copies` sequences with one prompt; false where the scheduler refuses them.
  bool add(int64_t prompt, int64_t answer, int64_t copies) {
    const uint64_t first = next_id_;
    const auto word = static_cast<int32_t>(number(words));
    for (int64_t i = 0; i < copies; ++i) {
      auto s = make_sequence(next_id_, prompt, answer);
      for (int32_t& token : s->tokens) token += 1000 * word;
      if (i > 0) s->leader = first;
      try {
        scheduler_.add(*s);
      } catch (const Error&) {
        REQUIRE(i == 0);
        return false;
      }
      sequences_[next_id_++] = std::move(s);
    }
    return true;
  }

  void cancel_one() {
    if (sequences_.empty()) return;
    auto at = sequences_.begin();
    std::advance(at, number(std::ssize(sequences_)));
    scheduler_.remove(*at->second);
    sequences_.erase(at);
    check_references();
  }

  // A step of the engine; false where there was nothing to do.
  bool step() {
    const StepPlan plan = scheduler_.plan();
    preemptions += plan.preempted;
    for (const StepPlan::Item& item : plan.items)
      shared_again +=
          item.sequence->preemptions > 0 && item.sequence->published.node == nullptr ? item.sequence->cached : 0;
    if (plan.items.empty()) {
      REQUIRE(sequences_.empty());
      return false;
    }
    check_plan(plan);
    for (const PageCopy& c : plan.copies) {
      ++copies;
      auto& slots = slots_[c.group];
      for (int64_t i = 0; i < kPageTokens; ++i)
        slots[static_cast<size_t>(c.to * kPageTokens + i)] = slots[static_cast<size_t>(c.from * kPageTokens + i)];
    }
    // All keys are written before any query reads.
    for (const StepPlan::Item& item : plan.items) write(item);
    for (const StepPlan::Item& item : plan.items) read(item);
    std::vector<Sequence*> sampled;
    for (const StepPlan::Item& item : plan.items)
      if (item.samples()) sampled.push_back(item.sequence);
    scheduler_.commit(plan);
    check_references();
    for (Sequence* s : sampled) {
      shared += s->length() == s->prompt_tokens ? s->shared : 0;
      s->tokens.push_back(static_cast<int32_t>(number(1000)));
      if (s->length() < s->token_limit) continue;
      scheduler_.remove(*s);
      sequences_.erase(s->id);
      ++finished;
    }
    check_references();
    return true;
  }

  int64_t words = 1000;  // prompts with one word begin alike
  int64_t finished = 0, preemptions = 0, copies = 0, shared = 0, shared_again = 0;

 private:
  // Prefixes are numbered as they appear, by the number of the prefix before and the token.
  int64_t prefix(const Sequence& s, int64_t length) {
    int64_t number = 0;
    for (int64_t i = 0; i < length; ++i) {
      const auto key = std::pair(number, s.tokens[static_cast<size_t>(i)]);
      number = prefixes_.try_emplace(key, std::ssize(prefixes_) + 1).first->second;
    }
    return number;
  }

  int64_t& slot(size_t group, const Sequence& s, int64_t position) {
    const int32_t page = s.pages[group].at(static_cast<size_t>(position / kPageTokens));
    if (page < 0) FAIL("sequence " << s.id << " has given back position " << position);
    return slots_[group][static_cast<size_t>(page * kPageTokens + position % kPageTokens)];
  }

  void write(const StepPlan::Item& item) {
    const Sequence& s = *item.sequence;
    int64_t number = prefix(s, s.cached);
    for (int64_t p = s.cached; p < s.cached + item.new_tokens; ++p) {
      const auto key = std::pair(number, s.tokens[static_cast<size_t>(p)]);
      number = prefixes_.try_emplace(key, std::ssize(prefixes_) + 1).first->second;
      for (size_t g = 0; g < groups_.size(); ++g) slot(g, s, p) = number;
    }
  }

  void read(const StepPlan::Item& item) {
    const Sequence& s = *item.sequence;
    for (size_t g = 0; g < groups_.size(); ++g) {
      const int64_t window = groups_[g].window;
      const int64_t from = window == 0 ? 0 : std::max<int64_t>(0, s.cached - window + 1);
      int64_t number = prefix(s, from);
      for (int64_t p = from; p < s.cached + item.new_tokens; ++p) {
        number = prefixes_.at({number, s.tokens[static_cast<size_t>(p)]});
        if (slot(g, s, p) != number) FAIL("sequence " << s.id << " sees a foreign key at position " << p);
      }
    }
  }

  void check_plan(const StepPlan& plan) {
    int64_t tokens = 0;
    for (size_t i = 0; i < plan.items.size(); ++i) {
      const StepPlan::Item& item = plan.items[i];
      REQUIRE(item.new_tokens >= 1);
      REQUIRE(item.new_tokens <= item.sequence->remaining());
      REQUIRE(item.sequence->status == SequenceStatus::running);
      if (i > 0) REQUIRE(plan.items[i - 1].sequence->id < item.sequence->id);
      tokens += item.new_tokens;
    }
    REQUIRE(tokens <= options_.max_batch_tokens);
    REQUIRE(std::ssize(plan.items) <= options_.max_sequences);
    REQUIRE(static_cast<int64_t>(scheduler_.running()) <= options_.max_sequences);
    check_references();
  }

  // Every page is referenced as often as it stands in a list, and is free where it stands in none.
  void check_references() {
    for (size_t g = 0; g < groups_.size(); ++g) {
      std::vector<int64_t> references(static_cast<size_t>(groups_[g].pages));
      for (const auto& [id, s] : sequences_)
        if (g < s->pages.size())
          for (const int32_t page : s->pages[g])
            if (page >= 0) ++references[static_cast<size_t>(page)];
      for (size_t page = 0; page < references.size(); ++page)
        if (references[page] != blocks_.references(g, static_cast<int32_t>(page)))
          FAIL("page " << page << " of group " << g << " is in " << references[page] << " lists");
      REQUIRE(std::count(references.begin(), references.end(), 0) == blocks_.free_pages(g));
    }
  }

  std::vector<PageGroup> groups_;
  SchedulerOptions options_;
  BlockManager blocks_;
  Scheduler scheduler_;
  uint64_t seed_, drawn_ = 0, next_id_ = 0;
  std::map<uint64_t, std::unique_ptr<Sequence>> sequences_;
  std::vector<std::vector<int64_t>> slots_;
  std::map<std::pair<int64_t, int32_t>, int64_t> prefixes_;
};

}  // namespace

TEST_CASE("random schedules: every query sees its own keys, no page is lost, everything ends") {
  int64_t preemptions = 0, copies = 0, shared = 0, finished = 0, shared_again = 0;
  constexpr int64_t kSchedules = test::kSanitized ? 150 : 1000;
  for (uint64_t seed = 0; seed < uint64_t{kSchedules}; ++seed) {
    INFO("seed " << seed);
    OracleRun probe({{0, 1}}, {1, 1}, seed);  // draws the settings
    const int64_t sequences = 1 + probe.number(6);
    const SchedulerOptions options{sequences, sequences + probe.number(40), probe.number(4) > 0};
    std::vector<PageGroup> groups = {{0, 2 + probe.number(14)}};
    if (probe.number(2) == 1) groups.push_back({1 + probe.number(40), 3 + probe.number(10)});
    if (probe.number(3) == 1) groups.erase(groups.begin());
    OracleRun oracle(groups, options, seed + 1000);
    if (options.prefix_cache) oracle.words = 3;
    for (int64_t round = 0; round < 60; ++round) {
      if (oracle.number(3) == 0) {
        // Multiples of the page are as likely as all else together.
        const int64_t prompt = oracle.number(2) == 0 ? 16 * (1 + oracle.number(4)) : 1 + oracle.number(70);
        oracle.add(prompt, 1 + oracle.number(40), 1 + oracle.number(3) * oracle.number(2));
      }
      if (oracle.number(12) == 0) oracle.cancel_one();
      oracle.step();
    }
    int64_t steps = 0;
    while (oracle.step()) REQUIRE(++steps < 20000);
    preemptions += oracle.preemptions;
    copies += oracle.copies;
    shared += oracle.shared;
    finished += oracle.finished;
    shared_again += oracle.shared_again;
  }
  // The schedules are worth something only if all of this happened.
  CHECK(finished > 10 * kSchedules);
  CHECK(preemptions > kSchedules / 2);
  CHECK(copies > kSchedules);
  CHECK(shared > 100 * kSchedules);
  CHECK(shared_again > kSchedules);  // found again after a preemption
}

TEST_CASE("decoding goes first, then prompts in chunks, oldest first") {
  BlockManager blocks({{0, 100}});
  Scheduler scheduler(blocks, {4, 10});
  auto a = make_sequence(0, 3, 5), b = make_sequence(1, 25, 5), c = make_sequence(2, 4, 5);
  const auto plan_and_commit = [&] {
    const StepPlan plan = scheduler.plan();
    std::vector<std::pair<uint64_t, int64_t>> items;
    std::vector<Sequence*> sampled;
    for (const StepPlan::Item& item : plan.items) {
      items.emplace_back(item.sequence->id, item.new_tokens);
      if (item.samples()) sampled.push_back(item.sequence);
    }
    scheduler.commit(plan);
    for (Sequence* s : sampled) s->tokens.push_back(1);
    return items;
  };
  using Items = std::vector<std::pair<uint64_t, int64_t>>;
  for (auto* s : {&a, &b, &c}) scheduler.add(**s);
  CHECK(plan_and_commit() == Items{{0, 3}, {1, 7}});
  CHECK(plan_and_commit() == Items{{0, 1}, {1, 9}});
  CHECK(plan_and_commit() == Items{{0, 1}, {1, 9}});
  CHECK(plan_and_commit() == Items{{0, 1}, {1, 1}, {2, 4}});  // a chunk of one token that is left of a prompt
  CHECK(plan_and_commit() == Items{{0, 1}, {1, 1}, {2, 1}});
  scheduler.remove(*b);
  CHECK(plan_and_commit() == Items{{0, 1}, {2, 1}});
}

TEST_CASE("one page too few: the youngest gives way, comes back and ends") {
  BlockManager blocks({{0, 7}});
  Scheduler scheduler(blocks, {2, 64});
  auto a = make_sequence(0, 30, 20), b = make_sequence(1, 30, 20);  // 4 pages each at the end, one more than there are
  scheduler.add(*a);
  scheduler.add(*b);
  int64_t steps = 0;
  while (scheduler.running() + scheduler.waiting() > 0) {
    REQUIRE(++steps < 200);
    const StepPlan plan = scheduler.plan();
    std::vector<Sequence*> sampled;
    for (const StepPlan::Item& item : plan.items)
      if (item.samples()) sampled.push_back(item.sequence);
    scheduler.commit(plan);
    for (Sequence* s : sampled) {
      s->tokens.push_back(1);
      if (s->length() == s->token_limit) scheduler.remove(*s);
    }
  }
  CHECK(a->preemptions == 0);
  CHECK(b->preemptions == 1);
  CHECK(blocks.free_pages(0) == 7);
}

TEST_CASE("what could never fit is refused with the counts") {
  BlockManager blocks({{0, 4}, {16, 3}});
  Scheduler scheduler(blocks, {2, 16});
  auto fits = make_sequence(0, 60, 4), too_long = make_sequence(1, 60, 5);
  CHECK_NOTHROW(scheduler.add(*fits));
  CHECK_THROWS_WITH(scheduler.add(*too_long),
                    ContainsSubstring("65 tokens needs 5 pages") && ContainsSubstring("has 4"));
  CHECK(scheduler.waiting() == 1);
  CHECK_THROWS_AS(Scheduler(blocks, {4, 3}), Error);
  CHECK_THROWS_AS(Scheduler(blocks, {0, 3}), Error);
}
