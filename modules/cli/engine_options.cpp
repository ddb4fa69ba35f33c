#include "cli/engine_options.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>

namespace lathe {
namespace {

std::shared_ptr<Drafter> make_drafter(const ModelOptions& options, const LoadedModel& target,
                                      const EngineOptions& engine, const std::string& who) {
  if (who == "ngram") return make_ngram_drafter();
  ModelOptions draft_options = options;
  draft_options.adapter.clear();
  draft_options.request_adapters.clear();
  draft_options.model = who;
  draft_options.ranks = &Communicator::one();  // the first rank guesses, and tells the others
  LoadedModel draft = draft_options.load();
  return make_model_drafter(std::move(draft.model), *target.model, options.cache_dtype(draft), engine.context,
                            engine.max_sequences);
}

}  // namespace

EngineOptions engine_options(const ModelOptions& options, const LoadedModel& loaded, const std::string& speculate) {
  EngineOptions result;
  result.cache_dtype = options.cache_dtype(loaded);
  result.kv_memory = options.kv_memory_bytes();
  result.context = options.context_limit(loaded.model->sizes);
  if (!speculate.empty() && loaded.model->ranks->is_first())
    result.drafter = make_drafter(options, loaded, result, speculate);
  return result;
}

ChatModel load_chat_model(const ModelOptions& options, const std::string& speculate,
                          const std::function<void(const LoadedModel&, EngineOptions&)>& adjust) {
  LoadedModel loaded = options.load();
  EngineOptions engine = engine_options(options, loaded, speculate);
  if (adjust) adjust(loaded, engine);
  ChatModel model(std::move(loaded), std::move(engine));
  if (model.has_tokenizer())
    for (const std::string& warning : model.tokenizer()->warnings())
      fmt::print(stderr, "lathe: warning: {}\n", warning);
  return model;
}

void print_speculation(const SpeculationControl& s) {
  fmt::print(stderr, "lathe: accepted {} of {} draft tokens", s.accepted(), s.drafted());
  if (s.cost() > 0 && s.yield() > 0)
    fmt::print(stderr, "; a speculative step costs {:.2f} plain ones and yields {:.2f} tokens", s.cost(), s.yield());
  fmt::print(stderr, "\n");
}

}  // namespace lathe
