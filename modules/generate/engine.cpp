#include "generate/engine.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>

#include "generate/kv_memory.h"
#include "generate/request_options.h"
#include "generate/stop_strings.h"
#include "tensor/profiler.h"

namespace lathe {

// One sequence of a request: what the scheduler sees, and what becomes of its tokens.
struct Engine::Generation {
  Sequence sequence;
  RequestId request_id = 0;
  int64_t index = 0;  // in the request
  std::shared_ptr<const Request> request;
  std::shared_ptr<const OnEvent> on_event;
  uint64_t seed = 0;
  TokenHistory history;  // kept only where penalties need it
  std::optional<StreamDecoder> decoder;
  StopStrings stop_strings;
  std::string text;  // that was handed out
  std::vector<TokenLogprobs> logprobs;
};

namespace {

int64_t context_of(const ModelSizes& config, int64_t asked) {
  const int64_t context = asked > 0 ? asked : config.context_limit();
  check(config.uses_rope() || context <= config.max_position_embeddings, "engine",
        "a context of {} tokens was asked for, the model has {} learned positions", context,
        config.max_position_embeddings);
  check(context > 0 && context <= std::numeric_limits<int32_t>::max(), "engine", "a context of {} tokens", context);
  return context;
}

}  // namespace

Engine::Engine(const CausalLM& model, std::shared_ptr<const Tokenizer> tokenizer, const EngineOptions& options)
    : model_(model),
      tokenizer_(std::move(tokenizer)),
      context_(context_of(model.sizes, options.context)),
      ropes_(model.config, context_, DType::f32, model.device()),
      rope_switch_(rope_switch(model.config)),
      drafter_(options.drafter),
      draft_tokens_(options.draft_tokens),
      max_batch_tokens_(options.max_batch_tokens) {
  const std::vector<PageGroup> groups = cache_pages(model.sizes, options.cache_dtype, options.kv_memory, context_,
                                                    options.max_batch_tokens, options.max_sequences, model.device());
  std::vector<int64_t> pages;
  for (const PageGroup& g : groups) pages.push_back(g.pages);
  blocks_ = std::make_unique<BlockManager>(groups);
  scheduler_ = std::make_unique<Scheduler>(
      *blocks_, SchedulerOptions{options.max_sequences, options.max_batch_tokens, options.prefix_cache});
  // Last: what is refused above, on all ranks, leaves none of them waiting.
  runner_ = std::make_unique<ModelRunner>(model, options.cache_dtype, pages, context_,
                                          options.graphs ? options.max_sequences : 0);
}

Engine::~Engine() = default;

void Engine::check_request(const Request& r) const {
  check(!r.prompt.empty(), "engine", "the prompt has no token");
  const int64_t vocabulary = model_.sizes.vocab_size;
  for (size_t i = 0; i < r.prompt.size(); ++i)
    check(r.prompt[i] >= 0 && r.prompt[i] < vocabulary, "engine",
          "token {} of the prompt is {}, the vocabulary has {} tokens", i, r.prompt[i], vocabulary);
  check(std::ssize(r.prompt) <= context_, "engine", "the prompt has {} tokens, the context is {}", r.prompt.size(),
        context_);
  check(r.max_new_tokens >= 1, "engine", "max_new_tokens must be at least 1, found {}", r.max_new_tokens);
  check(r.num_sequences >= 1 && r.num_sequences <= Request::kMostSequences, "engine",
        "num_sequences must be from 1 to {}, found {}", Request::kMostSequences, r.num_sequences);
  check(!r.logprobs || *r.logprobs >= 0, "engine", "logprobs must be at least 0, found {}", r.logprobs.value_or(0));
  check(r.stop_strings.empty() || tokenizer_ != nullptr, "engine", "stop strings need a tokenizer");
  validate(r.sampling);
}

RequestId Engine::submit(const Request& request, OnEvent on_event) {
  check_request(request);
  const auto shared_request = std::make_shared<const Request>(request);
  const auto shared_on_event = std::make_shared<const OnEvent>(std::move(on_event));
  const StopStrings stop_strings(request.stop_strings);
  const uint64_t seed = request.sampling.seed ? *request.sampling.seed : random_seed();
  const int64_t prompt_tokens = std::ssize(request.prompt);
  const int64_t token_limit =
      prompt_tokens + std::min(request.max_new_tokens, std::max<int64_t>(1, context_ - prompt_tokens));
  const uint64_t first = next_sequence_;
  for (int64_t i = 0; i < request.num_sequences; ++i) {
    auto g = std::make_unique<Generation>();
    g->sequence.id = next_sequence_;
    if (i > 0) g->sequence.leader = first;
    g->sequence.tokens = request.prompt;
    g->sequence.prompt_tokens = prompt_tokens;
    g->sequence.token_limit = token_limit;
    g->sequence.prefix_cache = request.prefix_cache;
    choose_rope(g->sequence);
    g->request_id = next_request_;
    g->index = i;
    g->request = shared_request;
    g->on_event = shared_on_event;
    g->seed = seed;
    if (request.sampling.penalises()) g->history.add_prompt(request.prompt);
    if (tokenizer_) g->decoder.emplace(*tokenizer_);
    g->stop_strings = stop_strings;
    scheduler_->add(g->sequence);  // throws for the first of them or for none
    generations_.emplace(next_sequence_++, std::move(g));
  }
  return next_request_++;
}

// By the tokens that there are, never by those that may come.
void Engine::choose_rope(Sequence& s) {
  s.rope = ropes_.of(s.length());
  const std::vector<float> frequencies = s.rope ? s.rope->frequencies.inverse : std::vector<float>();
  const auto [kind, added] = prefix_kinds_.try_emplace(frequencies, next_prefix_kind_);
  if (added) ++next_prefix_kind_;
  s.prefix_kind = kind->second;
}

bool Engine::idle() const { return generations_.empty() && events_.empty(); }

// Every decoding sequence may bring as many draft tokens as the step has room for.
void Engine::ask_for_drafts() {
  const std::vector<Sequence*> decoding = scheduler_->decoding();
  if (decoding.empty()) return;
  const int64_t room = max_batch_tokens_ / std::ssize(decoding) - 1;
  const int64_t length = speculation_.draft_length(std::min(draft_tokens_, room));
  for (Sequence* s : decoding) {
    const Generation& g = *generations_.at(s->id);
    const SampleKey key{g.seed, static_cast<uint64_t>(g.index), static_cast<uint64_t>(s->length())};
    // The last token of an answer is never computed, so no draft of it is needed.
    int64_t most = std::min(length, s->token_limit - s->length() - 1);
    if (s->length() <= rope_switch_) most = std::min(most, rope_switch_ - s->length());  // there it begins anew
    s->draft.clear();
    if (most > 0) s->draft = drafter_->draft({s->id, s->tokens, g.request->sampling, key}, most);
    for (const int32_t token : s->draft)
      check(token >= 0 && token < model_.sizes.vocab_size, "speculation",
            "the draft has token {}, the vocabulary has {} tokens", token, model_.sizes.vocab_size);
  }
}

StepReport Engine::step() {
  deliver();  // what an exception has left over
  const auto begin = std::chrono::steady_clock::now();
  if (drafter_) ask_for_drafts();
  const StepPlan plan = scheduler_->plan();
  StepReport report;
  report.preempted = plan.preempted;
  report.sequences = std::ssize(plan.items);
  if (plan.items.empty()) return report;
  const bool decoding = std::all_of(plan.items.begin(), plan.items.end(), [](const auto& i) { return i.decodes(); });
  const ProfileScope profile([&] {
    return ProfiledCall{decoding ? "decode" : "prefill", 0, 0, ProfiledCall::Kind::phase};
  });

  const Tensor logits = run(plan);                   // (R, V)
  const Tensor sampled = sample_rows(plan, logits);  // (R)
  scheduler_->commit(plan);
  int64_t row = 0;
  for (const StepPlan::Item& item : plan.items) {
    Sequence& s = *item.sequence;
    (item.decodes() ? report.decoded_tokens : report.prompt_tokens) += item.new_tokens;
    if (s.remaining() > 0) continue;  // the rest of its prompt comes later
    const std::vector<int32_t> draft(s.draft.begin(), s.draft.begin() + item.drafted);
    s.draft.clear();
    report.drafted += item.drafted;
    Generation& g = *generations_.at(s.id);
    bool goes_on = true;
    for (int64_t i = 0; i <= item.drafted; ++i) {
      ++report.sampled;
      goes_on = take_token(g, sampled.host<int32_t>()[row + i], logits.row_range(row + i, row + i + 1));
      if (!goes_on || i == item.drafted || s.tokens.back() != draft[static_cast<size_t>(i)]) break;
      ++s.cached;  // the draft token is accepted, so its keys and values are cached
      ++report.accepted;
    }
    row += 1 + item.drafted;
    if (goes_on && rope_switch_ > 0 && s.length() == rope_switch_ + 1) {
      choose_rope(s);
      scheduler_->recompute(s);
    }
  }
  report.decoded_tokens += report.accepted;
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  if (drafter_ && report.prompt_tokens == 0)
    speculation_.report(report.sequences, report.drafted, report.accepted, seconds.count());
  deliver();
  return report;
}

// Undefined where no sequence wants logits.
Tensor Engine::run(const StepPlan& plan) {
  std::vector<BatchSequence> sequences(plan.items.size());
  std::deque<std::vector<int32_t>> with_drafts;  // known tokens and draft tokens in a row
  for (size_t i = 0; i < sequences.size(); ++i) {
    const Sequence& s = *plan.items[i].sequence;
    const int64_t new_tokens = plan.items[i].new_tokens;
    BatchSequence& b = sequences[i];
    b.tokens = std::span(s.tokens).subspan(static_cast<size_t>(s.cached), static_cast<size_t>(new_tokens));
    if (plan.items[i].drafted > 0) {
      std::vector<int32_t>& row = with_drafts.emplace_back(b.tokens.begin(), b.tokens.end());
      row.insert(row.end(), s.draft.begin(), s.draft.begin() + plan.items[i].drafted);
      b.tokens = row;
    }
    b.cached = s.cached;
    b.pages.assign(s.pages.begin(), s.pages.end());
    b.rope = s.rope.get();
    b.logits_from = plan.items[i].samples() ? new_tokens - 1 : new_tokens;
  }
  return runner_->run(plan.copies, sequences);
}

// A token for each row of logits, each row behind a draft token as if that one were accepted: (R) on the host.
Tensor Engine::sample_rows(const StepPlan& plan, const Tensor& logits) const {
  if (!logits.defined()) return {};
  std::vector<SamplingRow> rows;
  std::deque<TokenHistory> histories;  // of rows behind draft tokens
  for (const StepPlan::Item& item : plan.items) {
    if (!item.samples()) continue;
    const Sequence& s = *item.sequence;
    const Generation& g = *generations_.at(s.id);
    for (int64_t i = 0; i <= item.drafted; ++i) {
      std::span<const TokenCount> history = g.history.counts();
      if (i > 0 && g.request->sampling.penalises()) {
        histories.push_back(g.history);
        histories.back().add_generated(std::span(s.draft).first(static_cast<size_t>(i)));
        history = histories.back().counts();
      }
      const SampleKey key{g.seed, static_cast<uint64_t>(g.index), static_cast<uint64_t>(s.length() + i)};
      rows.push_back({g.request->sampling, key.random(), history});
    }
  }
  return sample(logits, rows).to(Device{});
}

// The token that was sampled from a row of logits (1, V). False where that ends the sequence, which then is gone.
bool Engine::take_token(Generation& g, int32_t token, const Tensor& logits) {
  const Request& request = *g.request;
  GenerationEvent event;
  event.request = g.request_id;
  event.sequence = g.index;
  if (token == kNoToken) {  // an error of this sequence alone
    const auto position = static_cast<uint64_t>(g.sequence.length());
    finish(g, std::move(event), FinishReason::error, logits_error(logits, position).what());
    return false;
  }
  g.sequence.tokens.push_back(token);
  if (request.sampling.penalises()) g.history.add_generated({&token, 1});
  if (request.logprobs) event.logprobs = g.logprobs.emplace_back(token_logprobs(logits, token, *request.logprobs));
  event.token = token;

  const auto& stops = request.stop_tokens;
  const bool stop_token = !request.ignore_eos && std::find(stops.begin(), stops.end(), token) != stops.end();
  if (g.decoder && !stop_token) event.text = g.stop_strings.push(g.decoder->push(token));
  if (stop_token || g.stop_strings.found() || g.sequence.length() >= g.sequence.token_limit) {
    finish(g, std::move(event), stop_token || g.stop_strings.found() ? FinishReason::stop : FinishReason::length);
    return false;
  }
  g.text += event.text;
  events_.push_back({g.on_event, std::move(event)});
  return true;
}

void Engine::finish(Generation& g, GenerationEvent event, FinishReason reason, std::string error) {
  if (g.decoder && !g.stop_strings.found()) {
    event.text += g.stop_strings.push(g.decoder->finish());
    event.text += g.stop_strings.finish();
    if (g.stop_strings.found() && reason == FinishReason::length) reason = FinishReason::stop;
  }
  g.text += event.text;

  Completion& c = event.completion.emplace();
  c.sequence = g.index;
  c.tokens.assign(g.sequence.tokens.begin() + g.sequence.prompt_tokens, g.sequence.tokens.end());
  if (tokenizer_) c.text = std::move(g.text);
  c.finish_reason = reason;
  c.error = std::move(error);
  c.prompt_tokens = g.sequence.prompt_tokens;
  c.cached_tokens = g.sequence.shared;
  c.logprobs = std::move(g.logprobs);
  c.seed = g.seed;
  events_.push_back({g.on_event, std::move(event)});
  if (drafter_) drafter_->forget(g.sequence.id);
  scheduler_->remove(g.sequence);
  generations_.erase(g.sequence.id);
}

void Engine::cancel(RequestId request) {
  std::vector<Generation*> cancelled;
  for (const auto& [id, g] : generations_)
    if (g->request_id == request) cancelled.push_back(g.get());
  for (Generation* g : cancelled) {
    GenerationEvent event;
    event.request = g->request_id;
    event.sequence = g->index;
    finish(*g, std::move(event), FinishReason::cancelled);
  }
  deliver();
}

// Callbacks run when all state is in order, so they may submit and cancel; events that arise meanwhile join the queue.
void Engine::deliver() {
  if (delivering_) return;
  struct Delivering {
    bool& flag;
    explicit Delivering(bool& f) : flag(f) { flag = true; }
    ~Delivering() { flag = false; }
  } const delivering(delivering_);
  while (!events_.empty()) {
    const PendingEvent pending = std::move(events_.front());
    events_.pop_front();
    if (*pending.on_event) (*pending.on_event)(pending.event);
  }
}

}  // namespace lathe
