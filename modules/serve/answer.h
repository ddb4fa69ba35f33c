// What an endpoint makes of a request's body: requests for the engine, and what writes their events as the API wants
// them. It is made on a worker's thread; the rest happens on the server's.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "serve/api_error.h"
#include "serve/call_memory.h"
#include "serve/engine_thread.h"
#include "serve/http_server.h"

namespace lathe {

// What a request's `model` names: a model, or one of its adapters.
struct ServedModel {
  std::string id;
  const EngineThread& engine;
  int64_t created;                         // seconds since 1970
  const ServedModel* base = nullptr;       // of an adapter: the model that it changes
  std::vector<std::string> adapters = {};  // of a model
  bool always_usage = false;               // streams end with usage, whether a request asks for it or not
  std::shared_ptr<CallMemory> calls = std::make_shared<CallMemory>();
  std::shared_ptr<ToolForms> tool_forms = std::make_shared<ToolForms>();

  std::shared_ptr<const LowRankChanges> adapter() const;  // null: none. Once the engine is ready
  const ChatModel& chat() const { return engine.model(); }
  // Throws ApiError where the model has none.
  const Tokenizer& tokenizer() const;
};

class Answer {
 public:
  virtual ~Answer() = default;

  std::vector<Request> requests;
  bool stream = false;

  // Before the first event of a stream.
  virtual void begin(Exchange&) {}
  // `request`: its place in `requests`.
  virtual void take(Exchange& exchange, size_t request, const GenerationEvent& event) = 0;
  // Every sequence has its completion.
  virtual void finish(Exchange& exchange) = 0;
  // Where a stream has begun already.
  virtual void fail(Exchange& exchange, const ApiError& error) = 0;
};

// A name that no other answer of this process has: "cmpl-0018c3f2a9d10001".
std::string new_id(const char* prefix);
int64_t unix_seconds();

}  // namespace lathe
