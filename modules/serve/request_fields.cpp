#include "serve/request_fields.h"

#include <nlohmann/json.hpp>

namespace lathe {

RequestFields::RequestFields(const OrderedJsonNode& body) : body_(body) {
  if (!body.value().is_object()) throw ApiError(400, "the body must be a JSON object");
}

bool RequestFields::given(const std::string& name) {
  known_.insert(name);
  return body_.has(name);
}

void RequestFields::read(const std::string& name, const std::function<void(const OrderedJsonNode&)>& f) try {
  if (given(name)) f(body_.at(name));
} catch (const ApiError&) {
  throw;
} catch (const Error& e) {
  throw ApiError(400, e.what(), name);
}

void RequestFields::option(RequestOptions& options, const std::string& name, const std::string& option) {
  read(name, [&](const OrderedJsonNode& node) {
    options.read(option, node);
    calls(option, name);
  });
}

void RequestFields::sampling(RequestOptions& options) {
  const std::set<std::string> otherwise = {"max_new_tokens", "greedy", "num_sequences", "logprobs"};
  RequestOptions::visit(options, [&](auto&, const OptionFacts& facts, auto...) {
    if (!otherwise.contains(facts.name)) option(options, facts.name, facts.name);
  });
}

bool RequestFields::flag(const std::string& name, bool otherwise) {
  read(name, [&](const OrderedJsonNode& node) { otherwise = node.boolean(); });
  return otherwise;
}

void RequestFields::ignore(std::initializer_list<const char*> names) {
  for (const char* name : names) known_.insert(name);
}

void RequestFields::only(const std::string& name, const nlohmann::ordered_json& harmless) {
  read(name, [&](const OrderedJsonNode& node) {
    if (node.value() != harmless)
      throw ApiError(400, fmt::format("{} is not supported: only {} is accepted", name, dump_json(harmless)), name,
                     "unsupported_parameter");
  });
}

void RequestFields::finish() const {
  for (const auto& [key, value] : body_.value().items())
    if (!known_.contains(key))
      throw ApiError(400, fmt::format("unknown field {}: it is neither supported nor ignored", quote(key)), key,
                     "unknown_parameter");
}

ApiError RequestFields::blame(const RequestError& e) const {
  const auto found = field_of_option_.find(e.field());
  std::string message = e.what();
  if (!e.hint().empty()) message += "; " + e.hint();
  return {400, message, found == field_of_option_.end() ? e.field() : found->second};
}

}  // namespace lathe
