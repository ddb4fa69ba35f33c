#include "serve/served_models.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "formats/quote.h"

namespace lathe {

ServedModels::ServedModels(std::vector<ModelToServe> models, int64_t most_sequences,
                           const std::function<void()>& on_state) {
  for (ModelToServe& m : models)
    hosted_.push_back(std::make_unique<HostedModel>(std::move(m), most_sequences, on_state));
  std::set<std::string> ids;
  for (const ModelChoice& c : choices())
    check(ids.insert(c.model->id).second, "--model", "{} names two: NAME=PATH names them apart", c.model->id);
}

std::vector<ModelChoice> ServedModels::choices() const {
  std::vector<ModelChoice> list;
  for (const auto& m : hosted_) {
    list.push_back({&m->model, m.get()});
    for (const ServedModel& adapter : m->adapters) list.push_back({&adapter, m.get()});
  }
  return list;
}

EngineThread::State ServedModels::state() const {
  using State = EngineThread::State;
  State all = State::ready;
  for (const auto& m : hosted_) {
    const State one = m->engine.state();
    if (one == State::failed) return one;
    if (one == State::loading) all = one;
  }
  return all;
}

std::string ServedModels::failure() const {
  for (const auto& m : hosted_)
    if (m->engine.state() == EngineThread::State::failed) return m->engine.failure();
  return {};
}

std::chrono::milliseconds ServedModels::silence() const {
  std::chrono::milliseconds longest{};
  for (const auto& m : hosted_) longest = std::max(longest, m->engine.silence());
  return longest;
}

std::string ServedModels::metrics(MetricNames names) const {
  std::vector<MeasuredModel> measured;
  for (const auto& m : hosted_) measured.push_back({m->model.id, &m->engine, &m->metrics});
  return metrics_text(measured, names);
}

ModelChoice ServedModels::named(const std::string& id) const {
  std::string served;
  for (const ModelChoice& c : choices()) {
    if (c.model->id == id) return c;
    served += (served.empty() ? "" : ", ") + c.model->id;
  }
  throw ApiError(404, fmt::format("no model {}: {} is served", quote(id), served), "model", "model_not_found");
}

ModelChoice ServedModels::choose(nlohmann::ordered_json& body) const {
  if (!body.is_object() || !body.contains("model")) return first();
  const nlohmann::ordered_json name = body["model"];
  body.erase("model");
  if (name.is_null()) return first();
  if (!name.is_string()) throw ApiError(400, "body.model: expected a string", "model");
  return named(name.get<std::string>());
}

}  // namespace lathe
