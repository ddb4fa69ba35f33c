#include "serve/openai_answer.h"

#include <algorithm>
#include <charconv>
#include <utility>

namespace lathe {

namespace {

constexpr size_t kMostBiases = 1024;  // tokens

}  // namespace

Request make_request(const ServedModel& model, const RequestFields& fields, const RequestOptions& options,
                     std::vector<int32_t> prompt, const std::function<void(Request&)>& change) try {
  Request request = options.over(model.chat().request(std::move(prompt)));
  if (change) change(request);
  model.engine.check_request(request);
  return request;
} catch (const RequestError& e) {
  throw fields.blame(e);
}

OpenAiAnswer::OpenAiAnswer(const ServedModel& model, const char* id_prefix, const char* object,
                           const char* chunk_object)
    : model_(model),
      id_(new_id(id_prefix)),
      object_(object),
      chunk_object_(chunk_object),
      created_(unix_seconds()),
      include_usage_(model.always_usage) {}

void OpenAiAnswer::read_common(RequestFields& fields) {
  fields.sampling(options_);
  fields.read("n", [&](const OrderedJsonNode& node) { options_.num_sequences = node.integer(1, kMostChoices); });
  stream = fields.flag("stream", false);
  fields.read("stream_options", [&](const OrderedJsonNode& node) {
    if (!stream) throw ApiError(400, "stream_options needs stream: true", "stream_options");
    RequestFields of(node);
    include_usage_ = of.flag("include_usage", include_usage_);
    of.ignore({"include_obfuscation"});
    of.finish();
  });
  fields.read("logit_bias", [&](const OrderedJsonNode& node) {
    if (!node.value().is_object()) node.expected("an object");
    if (node.value().size() > kMostBiases)
      node.fail(fmt::format("{} tokens, at most {} may be named", node.value().size(), kMostBiases));
    for (const auto& [token, bias] : node.value().items()) {
      int32_t id = 0;
      const auto [end, problem] = std::from_chars(token.data(), token.data() + token.size(), id);
      if (problem != std::errc() || end != token.data() + token.size()) node.expected("ids of tokens as its keys");
      logit_bias_.emplace_back(id, static_cast<float>(node.at(token).number()));
    }
  });
  fields.ignore(
      {"user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "service_tier"});
}

void OpenAiAnswer::add_request(RequestFields& fields, std::vector<int32_t> prompt, std::optional<int64_t> most,
                               const std::function<void(Request&)>& change) {
  const int64_t room = model_.engine.longest_sequence() - std::ssize(prompt);
  options_.max_new_tokens = most.value_or(std::max<int64_t>(1, room));
  requests.push_back(make_request(model_, fields, options_, std::move(prompt), [&](Request& request) {
    request.prompt_logprobs = prompt_logprobs_;
    request.logit_bias = logit_bias_;
    if (change) change(request);
  }));
}

nlohmann::ordered_json OpenAiAnswer::head(bool chunk) const {
  return {{"id", id_}, {"object", chunk ? chunk_object_ : object_}, {"created", created_}, {"model", model_.id}};
}

nlohmann::ordered_json OpenAiAnswer::usage() const {
  return {{"prompt_tokens", prompt_tokens_},
          {"completion_tokens", completion_tokens_},
          {"total_tokens", prompt_tokens_ + completion_tokens_},
          {"prompt_tokens_details", {{"cached_tokens", cached_tokens_}}},
          {"completion_tokens_details", {{"reasoning_tokens", reasoning_tokens_}}}};
}

void OpenAiAnswer::send(Exchange& exchange, nlohmann::ordered_json choices) const {
  nlohmann::ordered_json chunk = head(true);
  chunk["choices"] = std::move(choices);
  if (include_usage_) chunk["usage"] = nullptr;
  exchange.write("data: " + dump_json(chunk) + "\n\n");
}

void OpenAiAnswer::take(Exchange& exchange, size_t request, const GenerationEvent& event) {
  if (!event.prompt_logprobs.empty()) prompt_scores_[request] = event.prompt_logprobs;
  if (event.completion) {
    const Completion& c = *event.completion;
    if (c.sequence == 0) {
      prompt_tokens_ += c.prompt_tokens;
      cached_tokens_ += c.cached_tokens;
    }
    completion_tokens_ += std::ssize(c.tokens);
    const size_t index = choice_index(request, c.sequence);
    if (!stream) {
      choices_.resize(std::max(choices_.size(), index + 1));
      choices_[index] = whole(request, c);
    }
  }
  if (!stream) return;
  if (auto choice = delta(request, event)) send(exchange, nlohmann::ordered_json::array({std::move(*choice)}));
}

void OpenAiAnswer::finish(Exchange& exchange) {
  if (!stream) {
    choose(choices_);
    nlohmann::ordered_json json = head(false);
    json["choices"] = std::move(choices_);
    json["usage"] = usage();
    return exchange.respond(200, dump_json(json));
  }
  if (include_usage_) {
    nlohmann::ordered_json chunk = head(true);
    chunk["choices"] = nlohmann::ordered_json::array();
    chunk["usage"] = usage();
    exchange.write("data: " + dump_json(chunk) + "\n\n");
  }
  exchange.write("data: [DONE]\n\n");
  exchange.end();
}

void OpenAiAnswer::fail(Exchange& exchange, const ApiError& error) {
  exchange.write("data: " + dump_json(error.openai()) + "\n\n");
  exchange.end();
}

}  // namespace lathe
