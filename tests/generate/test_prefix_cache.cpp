// The prefix cache: what may be found, what may not, and the bugs that schedulers of this kind have had.
#include "generate/generate.h"
#include "generate/scheduler.h"
#include "tests/catch.h"
#include "tests/generate/tiny_models.h"

using namespace lathe;
using namespace lathe::test;

namespace {

std::vector<int32_t> counting(int64_t tokens) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < tokens; ++i) ids.push_back(static_cast<int32_t>(i));
  return ids;
}

// A sequence that computed its tokens and ended: what is left is the cache's.
void compute_and_leave(BlockManager& blocks, const std::vector<int32_t>& tokens) {
  SequencePages pages;
  PublishedPrefix published;
  std::vector<PageCopy> copies;
  REQUIRE(blocks.reserve(pages, 0, std::ssize(tokens), copies));
  blocks.publish(0, tokens, std::ssize(tokens), pages, published);
  blocks.release(pages);
  blocks.retract(published);
}

std::vector<Completion> answers(Engine& engine, const std::vector<int32_t>& prompt, int64_t new_tokens) {
  Request r;
  r.prompt = prompt;
  r.max_new_tokens = new_tokens;
  r.sampling.temperature = 0.0;
  r.logprobs = 3;
  return generate(engine, {r}).completions[0];
}

bool same_bits(const std::vector<Completion>& a, const std::vector<Completion>& b) {
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].tokens != b[i].tokens) return false;
    for (size_t t = 0; t < a[i].logprobs.size(); ++t)
      if (a[i].logprobs[t].chosen.logprob != b[i].logprobs[t].chosen.logprob) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("a whole prompt in the cache still computes its last token") {
  BlockManager blocks({{0, 8}});
  compute_and_leave(blocks, counting(48));
  SequencePages pages;
  CHECK(blocks.share_prefix(0, counting(48), pages) == 32);  // not 48: the last token's logits are wanted
  blocks.release(pages);
  CHECK(blocks.share_prefix(0, counting(49), pages) == 48);

  const auto model = make_tiny(tiny_llama());
  const std::vector<int32_t> prompt = random_tokens(48, 3);
  Engine engine(*model, nullptr);
  const auto first = answers(engine, prompt, 5), again = answers(engine, prompt, 5);
  CHECK(first[0].cached_tokens == 0);
  CHECK(again[0].cached_tokens == 32);
  CHECK(same_bits(first, again));
}

TEST_CASE("a length that is a multiple of the page neither loses nor invents a page") {
  const auto model = make_tiny(tiny_llama());
  for (const int64_t length : {15, 16, 17, 31, 32, 33}) {
    const std::vector<int32_t> prompt = random_tokens(length, 3);
    Engine engine(*model, nullptr);
    const auto first = answers(engine, prompt, 17), again = answers(engine, prompt, 17);
    CHECK(again[0].cached_tokens == (length - 1) / 16 * 16);
    CHECK(same_bits(first, again));
    // The answer was cached as well: prompt and answer, of which the last token was never computed, and one more.
    std::vector<int32_t> longer = prompt;
    longer.insert(longer.end(), first[0].tokens.begin(), first[0].tokens.end());
    CHECK(answers(engine, longer, 1)[0].cached_tokens == (length + 16) / 16 * 16);
  }
}

TEST_CASE("a preempted sequence that finds its own pages again goes on where they end") {
  BlockManager blocks({{0, 7}});
  Scheduler scheduler(blocks, {2, 64});
  std::vector<Sequence> sequences(2);
  for (uint64_t id = 0; id < 2; ++id) {
    Sequence& s = sequences[id];
    s.id = id;
    s.tokens = random_tokens(30, id);
    s.prompt_tokens = 30;
    s.token_limit = 50;
    scheduler.add(s);
  }
  int64_t found = -1;
  for (int step = 0; scheduler.running() + scheduler.waiting() > 0; ++step) {
    REQUIRE(step < 200);
    const StepPlan plan = scheduler.plan();
    std::vector<Sequence*> sampled;
    for (const StepPlan::Item& item : plan.items) {
      const Sequence& s = *item.sequence;
      // The table holds what the step writes, and not more.
      CHECK(std::ssize(s.pages[0]) == pages_for(s.cached + item.new_tokens));
      if (s.preemptions > 0 && found < 0) found = s.cached;
      if (item.samples()) sampled.push_back(item.sequence);
    }
    scheduler.commit(plan);
    for (Sequence* s : sampled) {
      s->tokens.push_back(1);
      if (s->length() == s->token_limit) scheduler.remove(*s);
    }
  }
  CHECK(sequences[1].preemptions == 1);
  CHECK(found > 0);
  CHECK(found % kPageTokens == 0);
}

TEST_CASE("a page in flight is not found before it is computed") {
  BlockManager blocks({{0, 8}});
  Scheduler scheduler(blocks, {4, 64});
  std::vector<Sequence> twins(2);
  for (uint64_t id = 0; id < 2; ++id) {
    twins[id].id = id;
    twins[id].tokens = counting(20);
    twins[id].prompt_tokens = 20;
    twins[id].token_limit = 21;
    scheduler.add(twins[id]);
  }
  const StepPlan plan = scheduler.plan();
  REQUIRE(plan.items.size() == 2);
  CHECK(plan.items[1].new_tokens == 20);  // its twin's pages are reserved, their contents are not there
  CHECK(twins[0].pages[0][0] != twins[1].pages[0][0]);
  scheduler.commit(plan);
  SequencePages pages;
  CHECK(blocks.share_prefix(0, counting(20), pages) == 16);
  CHECK(pages[0][0] == twins[0].pages[0][0]);  // the first to be published stays
  blocks.release(pages);
  for (Sequence& s : twins) scheduler.remove(s);
  CHECK(blocks.free_pages(0) == 8);
  CHECK(blocks.cached_pages(0) == 1);  // the twin's copy of the page was of no use to anybody
}

TEST_CASE("a table that ends within its last page is extended, not written past its end") {
  BlockManager blocks({{0, 8}});
  compute_and_leave(blocks, counting(40));
  SequencePages pages;
  std::vector<PageCopy> copies;
  REQUIRE(blocks.share_prefix(0, counting(40), pages) == 32);
  CHECK(pages[0].size() == 2);
  for (int64_t length = 33; length <= 64; ++length) {
    REQUIRE(blocks.reserve(pages, length - 1, length, copies));
    CHECK(std::ssize(pages[0]) == pages_for(length));
  }
  CHECK(copies.empty());
  blocks.release(pages);
  CHECK(blocks.free_pages(0) == 8);
}

TEST_CASE("a fork while pages are evicted copies from a page that stays") {
  BlockManager blocks({{0, 3}});
  SequencePages leader, sibling, stranger;
  PublishedPrefix published;
  std::vector<PageCopy> copies;
  compute_and_leave(blocks, counting(16));  // one cached page, two free
  REQUIRE(blocks.share_prefix(0, counting(20), leader) == 16);
  REQUIRE(blocks.reserve(leader, 16, 20, copies));
  blocks.publish(0, counting(20), 20, leader, published);
  REQUIRE(blocks.fork(leader, 19, sibling));
  REQUIRE(blocks.reserve(sibling, 19, 20, copies));  // the third page
  REQUIRE(copies.size() == 1);
  CHECK(copies[0].from == leader[0][1]);
  CHECK(blocks.references(0, copies[0].from) == 1);
  CHECK_FALSE(blocks.reserve(stranger, 0, 1, copies));  // what is referred to is not evicted
  blocks.release(sibling);
  REQUIRE(blocks.reserve(stranger, 0, 1, copies));
  CHECK(leader[0][0] != stranger[0][0]);
  CHECK(leader[0][1] != stranger[0][0]);
}

TEST_CASE("the least recently used prefix goes first, its end before its beginning") {
  BlockManager blocks({{0, 4}});
  std::vector<int32_t> other = counting(32);
  for (int32_t& token : other) token += 100;
  const auto found = [&](std::vector<int32_t> tokens) {
    tokens.push_back(-1);
    SequencePages pages;
    const int64_t count = blocks.share_prefix(0, tokens, pages);
    blocks.release(pages);
    return count;
  };
  compute_and_leave(blocks, counting(32));
  compute_and_leave(blocks, other);
  CHECK(found(counting(32)) == 32);  // and is now the more recently used
  SequencePages first, second;
  std::vector<PageCopy> copies;
  REQUIRE(blocks.reserve(first, 0, 1, copies));
  REQUIRE(blocks.reserve(second, 0, 1, copies));
  CHECK(found(other) == 0);
  CHECK(found(counting(32)) == 32);
  blocks.release(first);
  blocks.release(second);
  REQUIRE(blocks.reserve(first, 0, 33, copies));  // two free pages and one that is cached
  CHECK(found(counting(32)) == 16);
}

TEST_CASE("a request that keeps out of the cache neither finds nor leaves anything there") {
  const auto model = make_tiny(tiny_llama());
  Engine engine(*model, nullptr);
  Request apart;
  apart.prompt = random_tokens(48, 3);
  apart.max_new_tokens = 5;
  apart.num_sequences = 2;
  apart.prefix_cache = false;
  const auto cached = [&](const Request& r) { return generate(engine, {r}).completions[0][0].cached_tokens; };
  Request plain = apart;
  plain.prefix_cache = true;
  CHECK(cached(apart) == 0);
  CHECK(cached(plain) == 0);
  CHECK(cached(plain) == 32);
  CHECK(cached(apart) == 0);
}

TEST_CASE("kinds of sequences do not see each other's pages") {
  BlockManager blocks({{0, 4}});
  compute_and_leave(blocks, counting(32));
  SequencePages pages;
  CHECK(blocks.share_prefix(1, counting(32), pages) == 0);
}

TEST_CASE("a windowed group needs no more of a prefix than the next query sees") {
  BlockManager blocks({{0, 8}, {20, 3}});
  SequencePages pages, found;
  PublishedPrefix published;
  std::vector<PageCopy> copies;
  const std::vector<int32_t> tokens = counting(80);
  for (int64_t cached = 0; cached < 80; cached += 16) {
    REQUIRE(blocks.reserve(pages, cached, cached + 16, copies));
    blocks.publish(0, tokens, cached + 16, pages, published);
    blocks.release_unseen(pages, cached + 16);
  }
  blocks.release(pages);
  blocks.retract(published);
  REQUIRE(blocks.share_prefix(0, tokens, found) == 64);
  CHECK(found[0].size() == 4);
  CHECK(found[1][1] < 0);   // positions below 45 are out of sight
  CHECK(found[1][2] >= 0);  // 45 to 47
  CHECK(found[1][3] >= 0);
  blocks.release(found);
  // Without the window's pages the whole of the other group's is of no use.
  SequencePages stranger;
  REQUIRE(blocks.reserve(stranger, 0, 16, copies));
  REQUIRE(blocks.reserve(stranger, 16, 33, copies));
  CHECK(blocks.share_prefix(0, tokens, found) == 0);
}

TEST_CASE("prefix-cached = computed, for every family and cache, whatever came before") {
  for (const ModelConfig& config : tiny_models()) {
    const auto model = make_tiny(config, DType::q8_0, Arithmetic::int8);
    EngineOptions options;
    options.cache_dtype = DType::f16;
    Engine engine(*model, nullptr, options);
    int64_t cached = 0;
    std::vector<int32_t> conversation = random_tokens(40, 9);
    for (uint64_t turn = 0; turn < 4; ++turn) {
      Engine alone(*model, nullptr, options);
      const auto given = answers(engine, conversation, 20);
      CHECK(same_bits(given, answers(alone, conversation, 20)));
      cached += given[0].cached_tokens;
      conversation.insert(conversation.end(), given[0].tokens.begin(), given[0].tokens.end());
      const std::vector<int32_t> question = random_tokens(11, turn);
      conversation.insert(conversation.end(), question.begin(), question.end());
    }
    CHECK(cached > 3 * 40);
  }
}

TEST_CASE("what is forgotten is never found again, nor what an answer leaves that was under way then") {
  const auto model = make_tiny(tiny_llama());
  const std::vector<int32_t> prompt = random_tokens(48, 3);
  Engine engine(*model, nullptr);
  answers(engine, prompt, 5);
  Request r;
  r.prompt = prompt;
  r.max_new_tokens = 30;
  r.ignore_eos = true;
  engine.submit(r, [](const GenerationEvent&) {});
  engine.step();
  engine.forget_prefixes();
  while (!engine.idle()) engine.step();
  CHECK(answers(engine, prompt, 5)[0].cached_tokens == 0);
  CHECK(answers(engine, prompt, 5)[0].cached_tokens == 32);
}
