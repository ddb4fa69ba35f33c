// POST /v1/inspect: what the model computes on its way through a text.
//
// "logit_lens": the residual stream after each block through the final norm and the head, as if the model ended there
// (nostalgebraist 2020). The pass goes over a key-value cache like the engine's own, so the last block's
// log-probabilities are those of the API to the bit.
// "attention": the probabilities of a layer's heads, over the text alone, without a cache: those of `lathe trace`.
#pragma once
#include <memory>

#include "formats/json_node.h"
#include "serve/answer.h"

namespace lathe {

class Inspection {
 public:
  virtual ~Inspection() = default;
  // A piece of the computation, on the engine's thread, no longer than a step of so many tokens. False: it was the
  // last.
  virtual bool work(const Engine& engine) = 0;
  // What was found, once there is no more work. From any thread.
  virtual nlohmann::ordered_json json() const = 0;
};

// Throws ApiError. From any thread.
std::unique_ptr<Inspection> make_inspection(const ServedModel& model, const OrderedJsonNode& body);

// GET /v1/engine: the sequences and pages of Engine::picture, with what there was to do since the start.
nlohmann::ordered_json describe_engine(const EngineThread& thread, const Engine& engine);

}  // namespace lathe
