#include "serve/inspect.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>

#include "common/observer.h"
#include "generate/sequence_cache.h"
#include "llm/trace.h"
#include "serve/endpoints.h"
#include "serve/logprobs.h"
#include "serve/openai_answer.h"

namespace lathe {
namespace {

using ViewJson = nlohmann::ordered_json;
constexpr int64_t kMostInspected = 512;          // of a text
constexpr int64_t kMostPositions = 32;           // of the logit lens
constexpr int64_t kMostAlternatives = 20;        // a position and layer
constexpr int64_t kMostProbabilities = 500'000;  // of an answer: some 4 MB
constexpr double kProbabilityPlaces = 1e4;       // probabilities of attention are rounded to four places

// f(name, x) for every tap of a pass; `wanted` names a costly one.
class Watch final : public Observer {
 public:
  Watch(std::string wanted, std::function<void(const std::string&, const Tensor&)> f)
      : wanted_(std::move(wanted)), f_(std::move(f)) {}
  bool wants(const std::string& name) const override { return name == wanted_; }
  void observe(const std::string& name, const Tensor& x) override { f_(name, x); }

 private:
  std::string wanted_;
  std::function<void(const std::string&, const Tensor&)> f_;
};

class ModelInspection : public Inspection {
 public:
  ModelInspection(const ServedModel& model, std::string what, std::vector<int32_t> tokens)
      : model_(model), what_(std::move(what)), tokens_(std::move(tokens)) {}

 protected:
  const CausalLM& network() const { return *model_.chat().loaded().model; }
  const Tokenizer* tokenizer() const {
    return model_.chat().has_tokenizer() ? model_.chat().tokenizer().get() : nullptr;
  }
  ViewJson token_json(int32_t id) const { return {{"id", id}, {"token", token_spelling(tokenizer(), id)}}; }
  ViewJson head_json() const {
    ViewJson tokens = ViewJson::array();
    for (const int32_t id : tokens_) tokens.push_back(token_json(id));
    return {{"object", "inspection"}, {"model", model_.id}, {"what", what_}, {"tokens", std::move(tokens)}};
  }

  const ServedModel& model_;
  const std::string what_;
  const std::vector<int32_t> tokens_;
};

class LogitLens final : public ModelInspection {
 public:
  LogitLens(const ServedModel& model, std::vector<int32_t> tokens, int64_t begin, int64_t end, int64_t top)
      : ModelInspection(model, "logit_lens", std::move(tokens)), begin_(begin), end_(end), top_(top) {}

  // First the pass, then the head over one layer's rows a piece.
  bool work(const Engine& engine) override {
    if (streams_.empty())
      run(engine.cache().dtype());
    else
      read(streams_[layers_.size()]);
    return layers_.size() < streams_.size();
  }

  ViewJson json() const override {
    ViewJson json = head_json();
    json["begin"] = begin_;
    json["layers"] = ViewJson::array();
    for (size_t i = 0; i < layers_.size(); ++i) json["layers"].push_back(layer_json(i));
    return json;
  }

 private:
  void run(DType cache_dtype) {
    Tensor rows = Tensor::empty({end_ - begin_}, DType::i32);  // (R)
    for (int64_t i = begin_; i < end_; ++i) rows.host<int32_t>()[i - begin_] = static_cast<int32_t>(i);
    rows = rows.to(network().device());
    Watch watch("", [&](const std::string& name, const Tensor& x) {
      if (name == "model.embed_tokens" || name.ends_with(".output"))
        streams_.push_back(select_rows(x, rows));  // (R, C)
    });
    const int64_t n = std::ssize(tokens_);
    SequenceCache cache(network(), cache_dtype, n, pages_for(n));
    CachedSequence text = cache.begin(n);
    const Observer::Scope watching(watch);
    const SequenceCache::Extension all{&text, tokens_};
    cache.extend({&all, 1});
  }

  void read(Tensor& stream) {
    std::vector<int32_t> next(tokens_.begin() + begin_ + 1, tokens_.begin() + std::min(end_ + 1, std::ssize(tokens_)));
    next.resize(static_cast<size_t>(end_ - begin_), 0);  // what follows the last token is not known
    layers_.push_back(token_logprobs(apply_head(network().final_norm(stream), network().head()), next, top_));
    stream = {};
  }

  ViewJson layer_json(size_t layer) const {
    ViewJson list = ViewJson::array();
    for (int64_t i = begin_; i < end_; ++i) {
      const TokenLogprobs& of = layers_[layer][static_cast<size_t>(i - begin_)];
      ViewJson top = ViewJson::array();
      for (const TokenLogprob& t : of.top) top.push_back(scored(t));
      list.push_back({{"next", i + 1 < std::ssize(tokens_) ? scored(of.chosen) : nullptr}, {"top", std::move(top)}});
    }
    return {{"layer", layer == 0 ? ViewJson("embed_tokens") : ViewJson(layer - 1)}, {"positions", std::move(list)}};
  }

  ViewJson scored(const TokenLogprob& t) const {
    ViewJson json = token_json(t.token);
    json["logprob"] = finite_logprob(t.logprob);
    return json;
  }

  const int64_t begin_, end_, top_;
  std::vector<Tensor> streams_;                     // (R, C): the embedding's, then each block's
  std::vector<std::vector<TokenLogprobs>> layers_;  // of those that are read
};

class AttentionMaps final : public ModelInspection {
 public:
  AttentionMaps(const ServedModel& model, std::vector<int32_t> tokens, int64_t layer, std::optional<int64_t> head)
      : ModelInspection(model, "attention", std::move(tokens)), layer_(layer), head_(head) {}

  bool work(const Engine&) override {
    const std::string wanted = fmt::format("model.layers.{}.self_attn.probabilities", layer_);
    Watch watch(wanted, [&](const std::string& name, const Tensor& x) {
      if (name == wanted) probabilities_ = x.to(Device{});
    });
    const Observer::Scope watching(watch);
    hidden_states(network(), tokens_);
    return false;
  }

  // Rows end at their own token: what comes later is not seen.
  ViewJson json() const override {
    ViewJson json = head_json();
    json["layer"] = layer_;
    json["layer_count"] = network().sizes.num_hidden_layers;
    json["head_count"] = probabilities_.dim(1);
    json["heads"] = ViewJson::array();
    const int64_t n = std::ssize(tokens_), heads = probabilities_.dim(1), width = probabilities_.dim(2);
    const float* p = probabilities_.host<float>();  // (N, Hq, N)
    for (int64_t h = head_.value_or(0); h < (head_ ? *head_ + 1 : heads); ++h) {
      ViewJson rows = ViewJson::array();
      for (int64_t i = 0; i < n; ++i) {
        ViewJson& row = rows.emplace_back(ViewJson::array());
        for (int64_t j = 0; j <= i; ++j)
          row.push_back(std::round(p[(i * heads + h) * width + j] * kProbabilityPlaces) / kProbabilityPlaces);
      }
      json["heads"].push_back({{"head", h}, {"rows", std::move(rows)}});
    }
    return json;
  }

 private:
  const int64_t layer_;
  const std::optional<int64_t> head_;  // none: all
  Tensor probabilities_;               // (N, Hq, N)
};

std::vector<int32_t> read_tokens(RequestFields& fields, const ServedModel& model) {
  std::vector<int32_t> tokens = read_text(fields, model);
  if (std::ssize(tokens) > kMostInspected)
    throw ApiError(400, fmt::format("{} tokens, at most {} are looked at", tokens.size(), kMostInspected), "tokens");
  const int64_t size = model.chat().loaded().model->sizes.vocab_size;
  for (const int32_t id : tokens)
    if (id >= size) throw ApiError(400, fmt::format("token {}: the vocabulary ends before {}", id, size), "tokens");
  return tokens;
}

std::unique_ptr<Inspection> make_lens(RequestFields& fields, const ServedModel& model, std::vector<int32_t> tokens) {
  const int64_t n = std::ssize(tokens);
  int64_t begin = std::max<int64_t>(0, n - kMostPositions), end = n, top = 5;
  fields.read("positions", [&](const OrderedJsonNode& node) {
    if (node.size() != 2) node.expected("the first position and the one behind the last");
    begin = node.at(0).integer(0, n - 1);
    end = node.at(1).integer(begin + 1, std::min(n, begin + kMostPositions));
  });
  fields.read("top", [&](const OrderedJsonNode& node) { top = node.integer(1, kMostAlternatives); });
  fields.finish();
  return std::make_unique<LogitLens>(model, std::move(tokens), begin, end, top);
}

std::unique_ptr<Inspection> make_maps(RequestFields& fields, const ServedModel& model, std::vector<int32_t> tokens) {
  const ModelSizes& sizes = model.chat().loaded().model->sizes;
  std::optional<int64_t> layer, head;
  fields.read("layer", [&](const OrderedJsonNode& node) { layer = node.integer(0, sizes.num_hidden_layers - 1); });
  fields.read("head", [&](const OrderedJsonNode& node) { head = node.integer(0, sizes.num_attention_heads - 1); });
  fields.finish();
  if (!layer) throw ApiError(400, "layer is missing", "layer");
  const int64_t n = std::ssize(tokens), count = (head ? 1 : sizes.num_attention_heads) * n * (n + 1) / 2;
  if (count > kMostProbabilities)
    throw ApiError(400, fmt::format("{} probabilities, at most {} are given: name one head", count, kMostProbabilities),
                   "head");
  return std::make_unique<AttentionMaps>(model, std::move(tokens), *layer, head);
}

}  // namespace

std::unique_ptr<Inspection> make_inspection(const ServedModel& model, const OrderedJsonNode& body) {
  RequestFields fields(body);
  if (!model.chat().loaded().model->ranks->alone())
    throw ApiError(400, "a model that several processes share out cannot be looked into");
  std::vector<int32_t> tokens = read_tokens(fields, model);
  std::string what;
  fields.read("what", [&](const OrderedJsonNode& node) { what = node.string(); });
  if (what == "logit_lens") return make_lens(fields, model, std::move(tokens));
  if (what == "attention") return make_maps(fields, model, std::move(tokens));
  throw ApiError(400, "what is \"logit_lens\" or \"attention\"", "what");
}

ViewJson describe_engine(const EngineThread& thread, const Engine& engine) {
  const Engine::Picture picture = engine.picture();
  const EngineThread::Counters& c = thread.counters();
  ViewJson sequences = ViewJson::array(), groups = ViewJson::array();
  for (const auto& s : picture.sequences)
    sequences.push_back({{"id", s.id},
                         {"running", s.running},
                         {"prompt_tokens", s.prompt_tokens},
                         {"tokens", s.tokens},
                         {"computed_tokens", s.computed},
                         {"cached_tokens", s.shared},
                         {"pages", s.pages}});
  static constexpr const char* kKinds[] = {"free", "cached", "used", "shared"};
  for (const auto& pages : picture.groups) {
    ViewJson runs = ViewJson::array();  // of equal neighbours
    for (auto at = pages.begin(); at != pages.end();) {
      const auto end = std::find_if(at, pages.end(), [&](auto kind) { return kind != *at; });
      runs.push_back({kKinds[static_cast<size_t>(*at)], end - at});
      at = end;
    }
    groups.push_back(std::move(runs));
  }
  return {{"object", "engine"},
          {"max_sequences", engine.limits().max_sequences},
          {"max_batch_tokens", engine.limits().max_batch_tokens},
          {"page_tokens", kPageTokens},
          {"prompt_tokens", c.prompt_tokens.load()},
          {"cached_tokens", c.cached_tokens.load()},
          {"generated_tokens", c.generated_tokens.load()},
          {"steps", c.steps.load()},
          {"sequences", std::move(sequences)},
          {"pages", std::move(groups)}};
}

}  // namespace lathe
