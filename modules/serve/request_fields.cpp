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
  options.skip_special_tokens = true;  // as other servers do
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

std::vector<int32_t> read_ids(const OrderedJsonNode& list) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < list.size(); ++i) ids.push_back(static_cast<int32_t>(list.at(i).integer(0, INT32_MAX)));
  return ids;
}

std::vector<OrderedJsonNode> read_texts(const OrderedJsonNode& node, size_t most) {
  if (node.value().is_string()) return {node};
  if (!node.value().is_array() || node.size() == 0) node.expected("a string, ids, or a list of such");
  if (node.value()[0].is_number()) return {node};
  if (node.size() > most)
    node.fail(fmt::format("{} texts, at most {} are taken: send several requests", node.size(), most));
  std::vector<OrderedJsonNode> texts;
  for (size_t i = 0; i < node.size(); ++i) texts.push_back(node.at(i));
  return texts;
}

}  // namespace lathe
