#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/show_explanation.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;
using Kind = ModelStep::Kind;

Json tokens_json(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  Json tokens = Json::array();
  for (const int32_t id : ids)
    tokens.push_back(
        {{"id", id}, {"text", tokenizer.token_text(id)}, {"bytes", show_bytes(tokenizer.token_bytes(id))}});
  return tokens;
}

Json step_json(const Explanation& explanation, const std::string& text, const ModelStep& step) {
  const auto part = [&](size_t begin, size_t end) { return text.substr(begin, end - begin); };
  Json json;
  if (step.kind == Kind::merge)
    json = {{"step", "merge"}, {"left", part(step.begin, step.middle)}, {"right", part(step.middle, step.end)}};
  else
    json = {{"step", step.kind == Kind::token ? "token" : "symbol"}};
  json["text"] = part(step.begin, step.end);
  json["id"] = step.id < 0 ? Json(nullptr) : Json(step.id);
  if (!std::isnan(step.weight)) json[explanation.measure] = step.weight;
  return json;
}

}  // namespace

std::string show_bytes(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) text += fmt::format("{}{:02x}", text.empty() ? "" : " ", static_cast<unsigned char>(c));
  return text;
}

nlohmann::ordered_json explanation_json(const Tokenizer& tokenizer, const Explanation& explanation) {
  Json stretches = Json::array();
  for (const auto& stretch : explanation.stretches) {
    if (stretch.token >= 0) {
      stretches.push_back({{"text", stretch.text}, {"token", tokens_json(tokenizer, {stretch.token})[0]}});
      continue;
    }
    Json pieces = Json::array();
    for (const auto& piece : stretch.pieces) {
      Json steps = Json::array();
      for (const ModelStep& step : piece.steps) steps.push_back(step_json(explanation, piece.text, step));
      pieces.push_back({{"text", piece.text},
                        {"added", piece.added},
                        {"steps", std::move(steps)},
                        {"tokens", tokens_json(tokenizer, piece.ids)}});
    }
    stretches.push_back({{"text", stretch.text}, {"normalized", stretch.normalized}, {"pieces", std::move(pieces)}});
  }
  return {{"tokens", explanation.ids()},
          {"before", tokens_json(tokenizer, explanation.before)},
          {"after", tokens_json(tokenizer, explanation.after)},
          {"measure", explanation.measure},
          {"stretches", std::move(stretches)}};
}

}  // namespace lathe
