// What Python holds: a model with its tokenizer and one engine, and the answers that stream from it.
//
// All requests of a model go through its one engine, so a prompt's beginning is computed once and answers that are
// asked for together are computed together. Every member may be called from many threads: computations of a model take
// turns, and `poll` is called while one waits and between its steps. Nothing here knows Python.
#pragma once
#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "generate/chat_model.h"
#include "llm/export.h"
#include "llm/load.h"
#include "python/src/computing.h"
#include "train/dataset.h"
#include "train/parameter_arena.h"

namespace lathe::python {

struct ModelSettings {
  LoadOptions load;
  std::optional<DType> cache_dtype;  // absent: as the model's dtype suggests
  size_t kv_memory = 0;              // bytes of the key-value cache; 0: the engine's choice
  int64_t context = 0;               // longest sequence; 0: the model's limit
  std::string speculate;             // who guesses ahead: "ngram", or a smaller model with the same vocabulary
};

using Sequences = std::vector<std::span<const int32_t>>;

class Model {
 public:
  // As load_model and Tokenizer::load, and as the program refuses what does not fit into memory. A model without a
  // tokenizer takes and gives ids.
  Model(const std::string& path, const ModelSettings& settings, LoadProgress& progress);

  const LoadedModel& loaded() const { return chat_.loaded(); }
  // Throws Error where the model has none.
  const std::shared_ptr<const Tokenizer>& tokenizer() const { return chat_.tokenizer(); }
  // Tokens that a sequence may have.
  int64_t context() const { return context_; }
  // A request with the model's own sampling defaults and stop tokens, as its files had them when it was loaded.
  Request request(std::vector<int32_t> prompt) const { return chat_.request(std::move(prompt)); }

  // As llm/trace.h and llm/causal_lm.h have them. Throw Error for no token, for one outside the vocabulary, and for
  // more than the context. What `poll` throws ends them between two layers.
  Tensor hidden(std::span<const int32_t> tokens, const Poll& poll);
  Tensor logits(std::span<const int32_t> tokens, const Poll& poll);
  NamedTensors trace(std::span<const int32_t> tokens, const std::string& filter, const Poll& poll);
  NamedTensors gradients(std::span<const int32_t> tokens, const Poll& poll);
  // The natural log-probability of every token but the first of each sequence, which are computed together by the
  // forward of training: one sequence's after another's, (their lengths less one each, in all) f32.
  Tensor log_probabilities(const Sequences& sequences, const Poll& poll);
  // The weights themselves, which the caller may write to: from here on no request uses what another has computed.
  NamedTensors parameters();
  // As export_model, with the weights in memory where they are trainable; an adapter that is trained here is written
  // by itself, as write_adapter does.
  std::vector<std::string> save(const std::string& output, const ExportOptions& options, const Poll& poll);

 private:
  friend class Stream;
  friend class Trainer;
  template <class F>
  auto exclusively(const Poll& poll, F&& f) {
    const Computing computing(poll);
    const Turn turn(turns_, poll);
    return f();
  }
  template <class F>
  auto over(std::span<const int32_t> tokens, const Poll& poll, F&& f);
  void check_tokens(std::span<const int32_t> tokens) const;
  TrainingRows rows_of(const Sequences& sequences) const;
  void require_trainable(const char* what) const;
  bool trains_adapter() const;
  // The weights in one stretch of memory, where they stay from the first call on. Throws Error where arrays of
  // `parameters` would be left behind.
  const ParameterArena& arena();
  // For who has the turn. What was abandoned is cancelled first.
  Engine& engine();
  void abandon(RequestId request);  // never waits

  ChatModel chat_;
  int64_t context_;
  std::atomic<bool> editable_ = false;
  std::unique_ptr<ParameterArena> arena_;  // null: nobody has trained the model
  std::atomic<bool> has_trainer_ = false;
  Turns turns_;
  std::mutex abandoned_mutex_;
  std::vector<RequestId> abandoned_;
};

// One answer as it comes. When it goes away early, what is left is cancelled.
class Stream {
 public:
  Stream(std::shared_ptr<Model> model, Request request, const Poll& poll);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // The next event; nothing after the last. Throws Error where the model gave no usable logits. Of several threads each
  // gets its events.
  std::optional<GenerationEvent> next(const Poll& poll);
  // Runs to the end. Throws what next throws.
  Completion result(const Poll& poll);
  // Ends the answer where it is. Its completion says "cancelled" unless it had ended already.
  void close(const Poll& poll);

 private:
  using Events = std::deque<GenerationEvent>;
  void take_completion(const GenerationEvent& event);

  // All for who has the model's turn.
  std::shared_ptr<Model> model_;
  std::shared_ptr<Events> events_ = std::make_shared<Events>();  // outlives this in the engine's callback
  RequestId id_ = 0;
  std::optional<Completion> completion_;
};

}  // namespace lathe::python
