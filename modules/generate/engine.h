// The engine: many requests, one model, one step at a time.
//
//   Engine engine(*loaded.model, tokenizer, {.cache_dtype = loaded.cache_dtype});
//   engine.submit(request, [](const GenerationEvent& event) { std::cout << event.text; });
//   while (!engine.idle()) engine.step();
//
// A step asks the scheduler for a plan, packs the new tokens of all its sequences into one Batch (N of them, of S
// sequences, R of which want logits), runs the model once over it, and samples the R rows. Prefill, chunks of it and
// decoding are the same pass: they differ in how many new tokens a sequence brings.
//
// What a sequence generates depends on its request alone: not on the others in the batch, on chunks, pages, preemption
// or threads. For one thread at a time; requests do not share state, so nothing else needs care.
//
// Where ranks share the model out, each has an engine: the first one's is used as above, the others' follow() it.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "generate/constraint.h"
#include "generate/model_runner.h"
#include "generate/request.h"
#include "generate/scheduler.h"
#include "generate/speculation.h"
#include "llm/causal_lm.h"
#include "text/tokenizer/tokenizer.h"

namespace lathe {

inline constexpr int64_t kScoredLogits = int64_t{1} << 24;  // of the prompts' own tokens in one step, at most

struct EngineOptions {
  DType cache_dtype = DType::f32;
  size_t kv_memory = 0;            // bytes of the key-value cache; 0: see cache_pages in generate/kv_memory.h
  int64_t max_sequences = 64;      // that run at once; further ones wait
  int64_t max_batch_tokens = 512;  // new tokens of a step
  bool prefix_cache = true;        // computed pages of a prompt's beginning are used again; the bits are the same
  bool graphs = true;              // on a CUDA device, decoding steps are recorded once and replayed; the same bits
  std::shared_ptr<Drafter> drafter = {};  // of speculative decoding; null: none
  int64_t draft_tokens = 6;               // most draft tokens a sequence and step
  // Tokens that a sequence may have; 0: the model's context_limit(). Models with rotary positions may be taken further
  // (the caller warns); a table of learned positions ends where it ends.
  int64_t context = 0;
};

struct StepReport {
  int64_t sequences = 0;       // that took part; 0: there was nothing to do
  int64_t prompt_tokens = 0;   // computed in chunks of prompts, or again after a preemption
  int64_t decoded_tokens = 0;  // computed one a sequence
  int64_t sampled = 0;         // tokens that came out
  int64_t preempted = 0;       // sequences that lost their pages
  int64_t drafted = 0, accepted = 0;
};

class Engine {
 public:
  // The model must live as long as the engine. Without a tokenizer, completions have no text.
  Engine(const CausalLM& model, std::shared_ptr<const Tokenizer> tokenizer, const EngineOptions& options = {});
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Queues a request. `on_event` is called from step() and cancel(). Throws RequestError naming the field and what was
  // expected: an empty prompt, an id outside the vocabulary, a prompt longer than the context, a request that the cache
  // could never hold, a sampling parameter out of range, a stop string that cannot be.
  //
  // A sequence ends with `length` when prompt and answer fill the context; a prompt that fills it alone still gets one
  // token.
  RequestId submit(const Request& request, OnEvent on_event);
  // Throws what submit would. From any thread.
  void check_request(const Request& request) const;

  // One pass over the model, and the events that follow from it. What `on_event` throws passes through; the remaining
  // events are delivered by the next step.
  StepReport step();
  bool idle() const;
  // ModelRunner::follow.
  bool follow() { return runner_->follow(); }

  // Of weights that are others from here on: no request that is submitted later uses what earlier ones have computed.
  // Those under way go on with what they have.
  void forget_prefixes() { prefix_kinds_.clear(); }

  // Ends what is left of a request, with FinishReason::cancelled; a request that is finished or unknown is left alone.
  // May be called from on_event.
  void cancel(RequestId request);

  int64_t context() const { return context_; }
  const SchedulerOptions& limits() const { return scheduler_->options(); }
  // Tokens of the longest sequence that context and cache have room for. From any thread.
  int64_t longest_sequence() const { return scheduler_->longest_sequence(context_); }
  // What there is to do and what room there is for it, now.
  struct Load {
    size_t running = 0, waiting = 0;  // sequences
    // Pages of all layer groups: those that sequences hold, those that are kept for their contents, all.
    int64_t used_pages = 0, cached_pages = 0, pages = 0;
  };
  Load load() const;
  // Every sequence and every page, now.
  struct Picture {
    enum class Page : uint8_t { free, cached, used, shared };  // `cached`: kept for its contents; `shared`: by several
    struct Sequence {
      uint64_t id;
      bool running;
      int64_t prompt_tokens, tokens, computed, shared, pages;  // `shared`: of its prompt, found in the cache
    };
    std::vector<Sequence> sequences;        // by age
    std::vector<std::vector<Page>> groups;  // of layers
  };
  Picture picture() const;
  const SpeculationControl& speculation() const { return speculation_; }
  const KVCache& cache() const { return runner_->cache(); }

 private:
  struct Generation;
  struct RowsToSample;
  struct PendingEvent {
    std::shared_ptr<const OnEvent> on_event;
    GenerationEvent event;
  };

  void choose_rope(Sequence& sequence, const Request& request);
  Tensor run(const StepPlan& plan, Tensor* hidden);
  void ask_for_drafts();
  Tensor sample_rows(const StepPlan& plan, const Tensor& logits);
  int64_t token_limit(const Request& request) const;
  // Whether a step ends in logits of which the sequence's next token is sampled.
  static bool samples(const StepPlan::Item& item, const Generation& generation);
  void pool(const StepPlan& plan, const Tensor& hidden);
  void finish_pooled(Generation& generation);
  // Rows of logits of tokens of the prompt that a step computes, ahead of the row that is sampled.
  static int64_t scored_rows(const StepPlan::Item& item, const Generation& generation);
  void add_rows(Generation& generation, int64_t drafted, RowsToSample& to);
  void score_prompt(Generation& generation, const Tensor& logits);
  bool is_shown(const Request& request, int32_t token) const;
  bool take_token(Generation& generation, int32_t token, const Tensor& logits);
  void finish(Generation& generation, GenerationEvent event, FinishReason reason, std::string error = {});
  void deliver();

  const CausalLM& model_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  int64_t context_;
  RopeTables ropes_;
  int64_t rope_switch_;
  std::unique_ptr<ModelRunner> runner_;
  std::unique_ptr<BlockManager> blocks_;
  std::unique_ptr<Scheduler> scheduler_;
  std::shared_ptr<Drafter> drafter_;
  int64_t draft_tokens_, max_batch_tokens_;
  SpeculationControl speculation_;
  std::map<uint64_t, std::unique_ptr<Generation>> generations_;  // by sequence id
  // What keys and values depend on besides the tokens, and who may share them. Rope frequencies may depend on the
  // length.
  struct PrefixKind {
    std::shared_ptr<const LowRankChanges> adapter;
    int64_t tenant;
    std::vector<float> frequencies;
    bool operator<(const PrefixKind& other) const {
      return std::tie(adapter, tenant, frequencies) < std::tie(other.adapter, other.tenant, other.frequencies);
    }
  };
  std::map<PrefixKind, int32_t> prefix_kinds_;
  int32_t next_prefix_kind_ = 0;
  std::unique_ptr<Constraints> constraints_;  // null without a tokenizer
  std::deque<PendingEvent> events_;
  bool delivering_ = false;
  uint64_t next_sequence_ = 0, next_request_ = 0;
};

}  // namespace lathe
