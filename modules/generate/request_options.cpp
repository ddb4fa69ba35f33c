#include "generate/request_options.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "text/grammar/json_schema.h"

namespace lathe {
namespace {

// One, or a list of them.
std::vector<std::string> texts(const OrderedJsonNode& node) {
  if (node.value().is_string()) return {node.string()};
  if (!node.value().is_array()) node.expected("a string or a list of strings");
  std::vector<std::string> all;
  for (size_t i = 0; i < node.size(); ++i) all.push_back(node.at(i).string());
  return all;
}

void read_into(bool& field, const OptionFacts&, const OrderedJsonNode& node) { field = node.boolean(); }
void read_into(std::vector<std::string>& field, const OptionFacts&, const OrderedJsonNode& node) {
  field = texts(node);
}
void read_into(std::optional<double>& field, const OptionFacts&, const OrderedJsonNode& node) { field = node.number(); }
void read_into(std::optional<uint64_t>& field, const OptionFacts&, const OrderedJsonNode& node) {
  field = node.unsigned_integer();
}
void read_into(std::optional<std::string>& field, const OptionFacts&, const OrderedJsonNode& node) {
  field = node.value().is_string() ? node.string() : node.value().dump();
}
template <class Field>  // int64_t or an optional one
void read_into(Field& field, const OptionFacts& facts, const OrderedJsonNode& node) {
  field = node.integer(static_cast<int64_t>(facts.lowest), static_cast<int64_t>(facts.highest));
}

}  // namespace

std::string OptionFacts::range() const {
  if (lowest == -kUnbounded) return "finite";
  const std::string low = fmt::format("{} {}", above_lowest ? "above" : "at least", lowest);
  if (highest == kUnbounded) return low + " and finite";
  return above_lowest ? fmt::format("{} and at most {}", low, highest) : fmt::format("from {} to {}", lowest, highest);
}

SamplingParameters SamplingChoices::over(SamplingParameters s) const {
  if (greedy) s.repetition_penalty = 1.0;
  visit(*this, [&](const auto& chosen, const OptionFacts&, auto parameter) {
    if (chosen) s.*parameter = *chosen;
  });
  if (greedy) s.temperature = 0.0;
  return s;
}

void validate(const SamplingParameters& p) {
  const SamplingChoices any;
  SamplingChoices::visit(any, [&](const auto&, const OptionFacts& facts, auto parameter) {
    if constexpr (std::is_arithmetic_v<std::decay_t<decltype(p.*parameter)>>)
      if (!facts.admits(static_cast<double>(p.*parameter)))
        throw RequestError(facts.name,
                           fmt::format("sampling: {} must be {}, found {}", facts.name, facts.range(), p.*parameter));
  });
}

void RequestOptions::read(const OrderedJsonNode& json) {
  for (const auto& [key, value] : json.value().items()) {
    std::string name = key;
    std::replace(name.begin(), name.end(), '-', '_');
    if (name == "prompt" || name == "messages" || name == "tokens") continue;
    bool known = false;
    visit(*this, [&](auto&, const OptionFacts& facts, auto...) { known |= name == facts.name; });
    if (!known) json.fail(fmt::format("unknown key {}", quote(key)), "lathe help generate lists the options");
    if (json.has(key)) read(name, json.at(key));  // null is the same as absent
  }
}

bool RequestOptions::read(std::string_view name, const OrderedJsonNode& value) {
  bool known = false;
  visit(*this, [&](auto& field, const OptionFacts& facts, auto...) {
    if (name != facts.name) return;
    known = true;
    read_into(field, facts, value);
  });
  return known;
}

Request RequestOptions::over(Request r) const {
  r.sampling = SamplingChoices::over(r.sampling);
  r.max_new_tokens = max_new_tokens;
  r.num_sequences = num_sequences;
  r.ignore_eos = ignore_eos;
  r.skip_special_tokens = skip_special_tokens;
  r.stop_strings = stop;
  r.logprobs = logprobs;
  if (json_schema) try {
      r.grammar = json_schema_grammar(*json_schema, "json_schema");
    } catch (const Error& e) {
      throw RequestError("json_schema", e.what(), e.hint());
    }
  return r;
}

}  // namespace lathe
