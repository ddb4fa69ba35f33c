// What Python holds: a model with its tokenizer and one engine, and the answers that stream from it.
//
// All requests of a model go through its one engine, so a prompt's beginning is computed once and answers that are
// asked for together are computed together. Forwards and steps of a model exclude each other; nothing here knows
// Python.
#pragma once
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "generate/engine.h"
#include "llm/load.h"

namespace lathe::python {

class Model {
 public:
  // As load_model and Tokenizer::load, and as the program refuses what does not fit into memory. A model without a
  // tokenizer takes and gives ids.
  Model(const std::string& path, const LoadOptions& options, LoadProgress& progress);

  const LoadedModel& loaded() const { return loaded_; }
  // Throws Error where the model has none.
  const std::shared_ptr<const Tokenizer>& tokenizer() const;
  // Ids of a text, or of the JSON of a conversation through the model's template.
  std::vector<int32_t> encode(const std::string& text) const;
  std::vector<int32_t> encode_messages(const std::string& json) const;
  // A request with the model's own sampling defaults and stop tokens.
  Request request(std::vector<int32_t> prompt) const;

  // Runs f while nothing else computes with this model.
  template <class F>
  auto exclusively(F&& f) {
    const std::lock_guard lock(mutex_);
    return f();
  }

 private:
  friend class Stream;
  Engine& engine();  // made at first use, so that a model that is only looked at has no cache

  LoadedModel loaded_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::string tokenizer_problem_;
  std::unique_ptr<Engine> engine_;
  std::mutex mutex_;
};

// One answer as it comes. The model must outlive it. When it goes away early, what is left is cancelled.
class Stream {
 public:
  Stream(Model& model, const Request& request);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // The next event; nothing after the last. `between_steps` may throw (Ctrl-C). Throws Error where the model gave no
  // usable logits.
  std::optional<GenerationEvent> next(const std::function<void()>& between_steps);
  // Runs to the end.
  const Completion& result(const std::function<void()>& between_steps);

 private:
  using Events = std::deque<GenerationEvent>;
  Model& model_;
  std::shared_ptr<Events> events_ = std::make_shared<Events>();  // outlives this in the engine's callback
  RequestId id_ = 0;
  std::optional<Completion> completion_;
};

}  // namespace lathe::python
