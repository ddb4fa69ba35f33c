// What /v1/completions and /v1/chat/completions share: the fields of both, usage, and the frame of streams.
#pragma once
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "serve/answer.h"
#include "serve/request_fields.h"

namespace lathe {

inline constexpr int64_t kMostChoices = 128;  // OpenAI's

// The request of a prompt with the options, and with what `change` does to it, if the engine takes it. Throws ApiError
// naming the field that it does not.
Request make_request(const ServedModel& model, const RequestFields& fields, const RequestOptions& options,
                     std::vector<int32_t> prompt, const std::function<void(Request&)>& change = {});

class OpenAiAnswer : public Answer {
 public:
  void take(Exchange& exchange, size_t request, const GenerationEvent& event) override;
  void finish(Exchange& exchange) override;
  void fail(Exchange& exchange, const ApiError& error) override;

 protected:
  // "cmpl", "text_completion", "text_completion"
  OpenAiAnswer(const ServedModel& model, const char* id_prefix, const char* object, const char* chunk_object);

  // Sampling, n, stop, seed, stream and what changes no answer; refuses what both endpoints cannot do.
  void read_common(RequestFields& fields);
  // A request of the prompt with the options; `most` new tokens, or as many as fit.
  void add_request(RequestFields& fields, std::vector<int32_t> prompt, std::optional<int64_t> most,
                   const std::function<void(Request&)>& change = {});
  void send(Exchange& exchange, nlohmann::ordered_json choices) const;

  // A choice of a stream's chunk, or nothing where the event has nothing to show; and one of a whole answer.
  virtual std::optional<nlohmann::ordered_json> delta(size_t request, const GenerationEvent& event) = 0;
  virtual nlohmann::ordered_json whole(size_t request, const Completion& completion) = 0;
  // Of a whole answer's choices, those that are sent.
  virtual void choose(std::vector<nlohmann::ordered_json>&) {}
  size_t choice_index(size_t request, int64_t sequence) const {
    return request * static_cast<size_t>(options_.num_sequences) + static_cast<size_t>(sequence);
  }

  const ServedModel& model_;
  RequestOptions options_;
  std::optional<int64_t> prompt_logprobs_;
  std::map<size_t, std::vector<TokenLogprobs>> prompt_scores_;  // by request, from its first event on
  int64_t reasoning_tokens_ = 0;

 private:
  nlohmann::ordered_json head(bool chunk) const;
  nlohmann::ordered_json usage() const;

  std::vector<std::pair<int32_t, float>> logit_bias_;
  std::string id_;
  const char *object_, *chunk_object_;
  int64_t created_;
  bool include_usage_ = false;
  int64_t prompt_tokens_ = 0, cached_tokens_ = 0, completion_tokens_ = 0;
  std::vector<nlohmann::ordered_json> choices_;  // of a whole answer, by index
};

}  // namespace lathe
