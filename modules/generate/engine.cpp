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
  TokenHistory history;  // biases, and tokens where penalties need them
  std::optional<Constraint> constraint;
  std::optional<StreamDecoder> decoder;
  StopStrings stop_strings;
  std::string text;  // that was handed out
  std::vector<TokenLogprobs> logprobs, prompt_logprobs;
  PooledStates pooled;  // where the request wants them
};

namespace {

// Throws RequestError unless `condition` holds.
template <class... Args>
void check_field(bool condition, const char* field, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) throw RequestError(field, "engine: " + fmt::format(format, std::forward<Args>(args)...));
}

int64_t context_of(const ModelSizes& config, int64_t asked) {
  const int64_t context = asked > 0 ? asked : config.context_limit();
  check(config.uses_rope() || context <= config.max_position_embeddings, "engine",
        "a context of {} tokens was asked for, the model has {} learned positions", context,
        config.max_position_embeddings);
  check(context > 0 && context <= std::numeric_limits<int32_t>::max(), "engine", "a context of {} tokens", context);
  return context;
}

// What f throws is the field's fault.
template <class F>
void blame(const char* field, const F& f) try {
  f();
} catch (const Error& e) {
  throw RequestError(field, e.what(), e.hint());
}

}  // namespace

// With what they refer to.
struct Engine::RowsToSample {
  std::vector<SamplingRow> rows;
  std::deque<std::vector<TokenCount>> histories;
  std::deque<std::vector<uint32_t>> allowed;
};

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
      *blocks_, SchedulerOptions{options.max_sequences, options.max_batch_tokens, options.prefix_cache,
                                 std::max<int64_t>(1, kScoredLogits / model.sizes.vocab_size)});
  if (tokenizer_) constraints_ = std::make_unique<Constraints>(*tokenizer_, model.sizes.vocab_size);
  // Last: what is refused above, on all ranks, leaves none of them waiting.
  runner_ = std::make_unique<ModelRunner>(model, options.cache_dtype, pages, context_,
                                          options.graphs ? options.max_sequences : 0);
}

Engine::~Engine() = default;

void Engine::check_request(const Request& r) const {
  check_field(!r.prompt.empty(), "prompt", "the prompt has no token");
  const int64_t vocabulary = model_.sizes.vocab_size;
  for (size_t i = 0; i < r.prompt.size(); ++i)
    check_field(r.prompt[i] >= 0 && r.prompt[i] < vocabulary, "prompt",
                "token {} of the prompt is {}, the vocabulary has {} tokens", i, r.prompt[i], vocabulary);
  check_field(std::ssize(r.prompt) <= context_, "prompt", "the prompt has {} tokens, the context is {}",
              r.prompt.size(), context_);
  check_field(r.max_new_tokens >= 1, "max_new_tokens", "max_new_tokens must be at least 1, found {}", r.max_new_tokens);
  check_field(r.num_sequences >= 1 && r.num_sequences <= Request::kMostSequences, "num_sequences",
              "num_sequences must be from 1 to {}, found {}", Request::kMostSequences, r.num_sequences);
  for (const auto& k : {r.logprobs, r.prompt_logprobs})
    check_field(k.value_or(0) >= 0, "logprobs", "logprobs must be at least 0, found {}", k.value_or(0));
  check_field(!r.pooling || r.num_sequences == 1, "num_sequences", "an embedding has one sequence");
  check_field(!r.pooling || (!r.logprobs && !r.prompt_logprobs), "logprobs", "an embedding has no log-probabilities");
  check_field(r.stop_strings.empty() || tokenizer_ != nullptr, "stop", "stop strings need a tokenizer");
  for (const auto& [token, bias] : r.logit_bias) {
    check_field(token >= 0 && token < vocabulary, "logit_bias", "logit_bias names token {}, the vocabulary has {}",
                token, vocabulary);
    check_field(bias >= -100 && bias <= 100, "logit_bias",
                "the logit_bias of token {} must be from -100 to 100, found {}", token, bias);
  }
  check_field(r.grammar == nullptr || tokenizer_ != nullptr, "json_schema", "a grammar needs a tokenizer");
  validate(r.sampling);
  blame("stop", [&] { StopStrings{r.stop_strings}; });
  blame("max_new_tokens", [&] { scheduler_->check_room(token_limit(r)); });
}

int64_t Engine::token_limit(const Request& r) const {
  const int64_t prompt_tokens = std::ssize(r.prompt);
  if (r.pooling) return prompt_tokens;
  return prompt_tokens + std::min(r.max_new_tokens, std::max<int64_t>(1, context_ - prompt_tokens));
}

RequestId Engine::submit(const Request& request, OnEvent on_event) {
  check_request(request);
  const auto shared_request = std::make_shared<const Request>(request);
  const auto shared_on_event = std::make_shared<const OnEvent>(std::move(on_event));
  const StopStrings stop_strings(request.stop_strings);
  const uint64_t seed = request.sampling.seed ? *request.sampling.seed : random_seed();
  const int64_t prompt_tokens = std::ssize(request.prompt);
  const uint64_t first = next_sequence_;
  for (int64_t i = 0; i < request.num_sequences; ++i) {
    auto g = std::make_unique<Generation>();
    g->sequence.id = next_sequence_;
    if (i > 0) g->sequence.leader = first;
    g->sequence.tokens = request.prompt;
    g->sequence.prompt_tokens = prompt_tokens;
    g->sequence.token_limit = token_limit(request);
    g->sequence.scores_prompt = request.prompt_logprobs && i == 0;
    g->sequence.prefix_cache = request.prefix_cache && request.pooling != Pooling::mean;
    choose_rope(g->sequence, request);
    g->request_id = next_request_;
    g->index = i;
    g->request = shared_request;
    g->on_event = shared_on_event;
    g->seed = seed;
    g->history.add_bias(request.logit_bias);
    if (request.sampling.penalises()) g->history.add_prompt(request.prompt);
    if (tokenizer_) g->decoder.emplace(*tokenizer_);
    g->stop_strings = stop_strings;
    if (request.grammar) g->constraint.emplace(constraints_->of(request));
    scheduler_->add(g->sequence);
    generations_.emplace(next_sequence_++, std::move(g));
  }
  return next_request_++;
}

// By the tokens that there are, never by those that may come.
void Engine::choose_rope(Sequence& s, const Request& request) {
  s.rope = ropes_.of(s.length());
  const std::vector<float> frequencies = s.rope ? s.rope->frequencies.inverse : std::vector<float>();
  const auto [kind, added] =
      prefix_kinds_.try_emplace({request.adapter, request.tenant, frequencies}, next_prefix_kind_);
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

  const bool pools = std::any_of(plan.items.begin(), plan.items.end(),
                                 [&](const auto& i) { return generations_.at(i.sequence->id)->request->pooling; });
  Tensor hidden;                                               // (N, C), where any request wants them
  const Tensor logits = run(plan, pools ? &hidden : nullptr);  // (R, V)
  if (pools) pool(plan, hidden);
  const Tensor sampled = sample_rows(plan, logits);  // a token for each row but the scored ones
  std::vector<int64_t> scored;                       // rows, by item
  for (const StepPlan::Item& item : plan.items)
    scored.push_back(scored_rows(item, *generations_.at(item.sequence->id)));
  scheduler_->commit(plan);
  int64_t row = 0, sampled_row = 0;
  for (size_t at = 0; at < plan.items.size(); ++at) {
    const StepPlan::Item& item = plan.items[at];
    Sequence& s = *item.sequence;
    if (scored[at] > 0) score_prompt(*generations_.at(s.id), logits.row_range(row, row + scored[at]));
    row += scored[at];
    (item.decodes() ? report.decoded_tokens : report.prompt_tokens) += item.new_tokens;
    if (s.remaining() > 0) continue;  // the rest of its prompt comes later
    const std::vector<int32_t> draft(s.draft.begin(), s.draft.begin() + item.drafted);
    s.draft.clear();
    report.drafted += item.drafted;
    Generation& g = *generations_.at(s.id);
    if (g.request->pooling) {
      finish_pooled(g);
      continue;
    }
    bool goes_on = true;
    for (int64_t i = 0; i <= item.drafted; ++i) {
      ++report.sampled;
      goes_on = take_token(g, sampled.host<int32_t>()[sampled_row + i], logits.row_range(row + i, row + i + 1));
      if (!goes_on || i == item.drafted || s.tokens.back() != draft[static_cast<size_t>(i)]) break;
      ++s.cached;  // the draft token is accepted, so its keys and values are cached
      ++report.accepted;
    }
    row += 1 + item.drafted;
    sampled_row += 1 + item.drafted;
    if (goes_on && rope_switch_ > 0 && s.length() == rope_switch_ + 1) {
      choose_rope(s, *g.request);
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
Tensor Engine::run(const StepPlan& plan, Tensor* hidden) {
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
    const Generation& g = *generations_.at(s.id);
    b.changes = g.request->adapter.get();
    b.logits_from = new_tokens - samples(plan.items[i], g) - scored_rows(plan.items[i], g);
  }
  return runner_->run(plan.copies, sequences, hidden);
}

bool Engine::samples(const StepPlan::Item& item, const Generation& g) { return item.samples() && !g.request->pooling; }

// Before the plan is committed: adds the hidden states (N, C) of a step's tokens to what their sequences pool.
void Engine::pool(const StepPlan& plan, const Tensor& hidden) {
  int64_t row = 0;
  for (const StepPlan::Item& item : plan.items) {
    Generation& g = *generations_.at(item.sequence->id);
    if (g.request->pooling)
      g.pooled.add(hidden.row_range(row, row + item.new_tokens), item.sequence->cached, *g.request->pooling);
    row += item.new_tokens + item.drafted;
  }
}

void Engine::finish_pooled(Generation& g) {
  GenerationEvent event;
  event.request = g.request_id;
  event.sequence = g.index;
  const bool usable = !g.pooled.embedding().empty();
  finish(g, std::move(event), usable ? FinishReason::stop : FinishReason::error,
         usable ? "" : "engine: the hidden states of the prompt have no finite length");
}

// Those of tokens that were not scored before, should a preemption have come between.
int64_t Engine::scored_rows(const StepPlan::Item& item, const Generation& g) {
  const Sequence& s = *item.sequence;
  const int64_t scored = std::ssize(g.prompt_logprobs);
  if (!s.scores_prompt || scored == s.prompt_tokens - 1) return 0;
  return std::max<int64_t>(0, s.cached + item.new_tokens - item.samples() - std::max(s.cached, scored));
}

// By the logits (r, V) of the first tokens that were not scored yet.
void Engine::score_prompt(Generation& g, const Tensor& logits) {
  const int32_t* next = g.sequence.tokens.data() + g.prompt_logprobs.size() + 1;
  for (TokenLogprobs& token :
       token_logprobs(logits, {next, static_cast<size_t>(logits.dim(0))}, *g.request->prompt_logprobs))
    g.prompt_logprobs.push_back(std::move(token));
}

// A token for each row of logits that is not scored, on the host.
Tensor Engine::sample_rows(const StepPlan& plan, const Tensor& logits) {
  if (!logits.defined()) return {};
  RowsToSample to;
  std::vector<int32_t> places;  // of rows, in logits
  int32_t place = 0;
  for (const StepPlan::Item& item : plan.items) {
    Generation& g = *generations_.at(item.sequence->id);
    place += static_cast<int32_t>(scored_rows(item, g));
    if (!samples(item, g)) continue;
    add_rows(g, item.drafted, to);
    while (places.size() < to.rows.size()) places.push_back(place++);
  }
  if (to.rows.empty()) return {};
  if (std::ssize(to.rows) == logits.dim(0)) return sample(logits, to.rows).to(Device{});
  const Tensor chosen = Tensor::of<int32_t>({std::ssize(places)}, places.data()).to(logits.device());
  return sample(select_rows(logits, chosen), to.rows).to(Device{});
}

// The row of the sequence's last token, and those of its draft tokens, each as if those before it were accepted.
void Engine::add_rows(Generation& g, int64_t drafted, RowsToSample& to) {
  const Sequence& s = g.sequence;
  const Request& request = *g.request;
  TokenHistory history;  // with draft tokens
  if (drafted > 0 && request.sampling.penalises()) history = g.history;
  std::optional<Constraint> drafted_constraint;  // with draft tokens
  if (drafted > 0) drafted_constraint = g.constraint;
  Constraint* constraint = drafted_constraint ? &*drafted_constraint : g.constraint ? &*g.constraint : nullptr;
  for (int64_t i = 0; i <= drafted; ++i) {
    const SampleKey key{g.seed, static_cast<uint64_t>(g.index), static_cast<uint64_t>(s.length() + i)};
    SamplingRow row{request.sampling, key.random(), g.history.counts()};
    if (i > 0) {
      const int32_t draft = s.draft[static_cast<size_t>(i) - 1];
      if (constraint) constraint->take(draft);
      if (request.sampling.penalises()) {
        history.add_generated({&draft, 1});
        row.history = to.histories.emplace_back(history.counts().begin(), history.counts().end());
      }
    }
    if (constraint) row.allowed = to.allowed.emplace_back(constraint->allowed());
    to.rows.push_back(row);
  }
}

bool Engine::is_shown(const Request& r, int32_t token) const {
  if (!r.skip_special_tokens || !tokenizer_->is_special(token)) return true;
  const std::string text = tokenizer_->token_text(token);
  const auto has_it = [&](const std::string& mark) { return mark.find(text) != mark.npos; };
  return std::any_of(r.kept_marks.begin(), r.kept_marks.end(), has_it) ||
         std::any_of(r.stop_strings.begin(), r.stop_strings.end(), has_it);
}

// The token that was sampled from a row of logits (1, V). False where that ends the sequence, which then is gone.
bool Engine::take_token(Generation& g, int32_t token, const Tensor& logits) {
  const Request& request = *g.request;
  GenerationEvent event;
  event.request = g.request_id;
  event.sequence = g.index;
  if (token == kNoToken) {  // an error of this sequence alone
    const auto position = static_cast<uint64_t>(g.sequence.length());
    const std::string why = g.constraint ? g.constraint->why_no_token() : "";
    finish(g, std::move(event), FinishReason::error, why.empty() ? logits_error(logits, position).what() : why);
    return false;
  }
  g.sequence.tokens.push_back(token);
  if (request.sampling.penalises()) g.history.add_generated({&token, 1});
  if (request.logprobs)
    event.logprobs = g.logprobs.emplace_back(std::move(token_logprobs(logits, {&token, 1}, *request.logprobs)[0]));
  if (g.sequence.length() == g.sequence.prompt_tokens + 1) event.prompt_logprobs = g.prompt_logprobs;
  event.token = token;

  const auto& ends = request.stop_tokens;
  const bool stop_token = !request.ignore_eos && std::find(ends.begin(), ends.end(), token) != ends.end();
  if (g.decoder && !stop_token && is_shown(request, token)) event.text = g.stop_strings.push(g.decoder->push(token));
  if (g.constraint && !stop_token) g.constraint->take(token);
  const bool stops = stop_token || g.stop_strings.found() || (g.constraint && g.constraint->is_over());
  if (stops || g.sequence.length() >= g.sequence.token_limit) {
    finish(g, std::move(event), stops ? FinishReason::stop : FinishReason::length);
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
  c.stop_string = g.stop_strings.which();
  c.error = std::move(error);
  c.prompt_tokens = g.sequence.prompt_tokens;
  c.cached_tokens = g.sequence.shared;
  c.logprobs = std::move(g.logprobs);
  c.prompt_logprobs = std::move(g.prompt_logprobs);
  if (g.request->pooling) c.embedding = g.pooled.embedding();
  c.seed = g.seed;
  events_.push_back({g.on_event, std::move(event)});
  if (drafter_) drafter_->forget(g.sequence.id);
  scheduler_->remove(g.sequence);
  generations_.erase(g.sequence.id);
}

Engine::Load Engine::load() const {
  Load load{scheduler_->running(), scheduler_->waiting()};
  for (size_t g = 0; g < blocks_->groups(); ++g) {
    load.pages += blocks_->pages(g);
    load.cached_pages += blocks_->cached_pages(g);
    load.used_pages += blocks_->pages(g) - blocks_->free_pages(g);
  }
  return load;
}

Engine::Picture Engine::picture() const {
  Picture picture;
  for (const auto& [id, g] : generations_) {
    const Sequence& s = g->sequence;
    int64_t pages = 0;
    for (const auto& list : s.pages) pages += std::ssize(list) - std::count(list.begin(), list.end(), -1);
    picture.sequences.push_back(
        {id, s.status == SequenceStatus::running, s.prompt_tokens, s.length(), s.cached, s.shared, pages});
  }
  for (size_t g = 0; g < blocks_->groups(); ++g) {
    std::vector<Picture::Page>& group = picture.groups.emplace_back();
    for (int32_t page = 0; page < blocks_->pages(g); ++page) {
      const int64_t references = blocks_->references(g, page);
      group.push_back(references > 1                ? Picture::Page::shared
                      : references == 1             ? Picture::Page::used
                      : blocks_->published(g, page) ? Picture::Page::cached
                                                    : Picture::Page::free);
    }
  }
  return picture;
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
