// The models that a server has, by the names that requests choose them with. Of the server's thread, but for what says
// otherwise.
#pragma once
#include <functional>
#include <list>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "serve/answer.h"
#include "serve/engine_thread.h"
#include "serve/metrics.h"

namespace lathe {

struct ModelToServe {
  std::string id;
  EngineThread::Load load;
  std::vector<std::string> adapters = {};  // the names of its LoadedModel::request_adapters
  bool always_usage = false;
};

// A model with its engine, and what is counted of it.
struct HostedModel {
  EngineThread engine;
  ServedModel model;
  std::list<ServedModel> adapters;
  Metrics metrics;
  uint64_t reported_generated = 0, reported_prompts = 0;  // tokens, in the last line of statistics

  HostedModel(ModelToServe m, int64_t most_sequences, std::function<void()> on_state)
      : engine(std::move(m.load), most_sequences, std::move(on_state)), model{std::move(m.id), engine,
                                                                              unix_seconds(),  nullptr,
                                                                              m.adapters,      m.always_usage} {
    for (const std::string& name : m.adapters)
      adapters.push_back({name, engine, model.created, &model, {}, m.always_usage});
  }
};

// What a request's field `model` chooses.
struct ModelChoice {
  const ServedModel* model;
  HostedModel* hosted;
};

class ServedModels {
 public:
  // `most_sequences`: of each model, that may run or wait. `on_state` is called once a model, on its engine's thread,
  // when it is loaded or could not be. Throws Error where two have one name.
  ServedModels(std::vector<ModelToServe> models, int64_t most_sequences, const std::function<void()>& on_state);

  // Ready when all are; failed when one is. From any thread.
  EngineThread::State state() const;
  // Why one could not be loaded.
  std::string failure() const;
  // The longest time since an engine's thread was seen between two steps.
  std::chrono::milliseconds silence() const;

  // The model or adapter that the field `model` names, which is taken out of the body; where there is none, the first.
  // Throws ApiError (404, model_not_found) where no model has the name. From any thread, once ready.
  ModelChoice choose(nlohmann::ordered_json& body) const;
  // By its name; the same ApiError.
  ModelChoice named(const std::string& id) const;
  ModelChoice first() const { return {&hosted_.front()->model, hosted_.front().get()}; }
  // All models, each before its adapters.
  std::vector<ModelChoice> choices() const;
  std::string metrics(MetricNames names) const;
  const std::vector<std::unique_ptr<HostedModel>>& all() const { return hosted_; }

 private:
  std::vector<std::unique_ptr<HostedModel>> hosted_;
};

}  // namespace lathe
