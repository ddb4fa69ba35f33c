// /v1/embeddings and /v1/similarity: texts, or lists of ids, as vectors of unit length, and how near those are.
#include <bit>
#include <nlohmann/json.hpp>
#include <numeric>

#include "formats/base64.h"
#include "serve/endpoints.h"
#include "serve/openai_answer.h"

namespace lathe {
namespace {

using EmbeddingJson = nlohmann::ordered_json;
constexpr size_t kMostInputs = 2048;  // OpenAI's

class EmbeddingAnswer : public Answer {
 public:
  explicit EmbeddingAnswer(const ServedModel& model) : model_(model) {}

  void take(Exchange&, size_t request, const GenerationEvent& event) override {
    if (!event.completion) return;
    embeddings_.resize(requests_);
    embeddings_[request] = event.completion->embedding;
    prompt_tokens_ += event.completion->prompt_tokens;
  }
  void fail(Exchange&, const ApiError&) override {}  // it is never a stream

 protected:
  void read_common(RequestFields& fields) {
    fields.ignore({"user"});
    pooling_ = default_pooling(model_.chat().loaded().checkpoint);
    fields.read("pooling", [&](const OrderedJsonNode& node) { pooling_ = parse_pooling(node.string()); });
  }
  // What read_texts takes; how many requests it became.
  size_t read_inputs(RequestFields& fields, const std::string& name) {
    fields.calls("prompt", name);
    const size_t before = requests.size();
    fields.read(name, [&](const OrderedJsonNode& node) {
      for (const OrderedJsonNode& text : read_texts(node, kMostInputs)) add(fields, text);
    });
    requests_ = requests.size();
    if (requests_ == before) throw ApiError(400, name + " is missing", name);
    return requests_ - before;
  }
  void respond(Exchange& exchange, EmbeddingJson json) const {
    json["model"] = model_.id;
    json["usage"] = {{"prompt_tokens", prompt_tokens_}, {"total_tokens", prompt_tokens_}};
    exchange.respond(200, dump_json(json));
  }

  std::vector<std::vector<float>> embeddings_;  // by request

 private:
  void add(const RequestFields& fields, const OrderedJsonNode& node) {
    Request request;
    request.pooling = pooling_;
    request.prompt = node.value().is_string() ? model_.tokenizer().encode(node.string()) : read_ids(node);
    try {
      model_.engine.check_request(request);
    } catch (const RequestError& e) {
      throw fields.blame(e);
    }
    requests.push_back(std::move(request));
  }

  const ServedModel& model_;
  Pooling pooling_ = Pooling::mean;
  size_t requests_ = 0;  // the engine takes `requests`
  int64_t prompt_tokens_ = 0;
};

class EmbeddingList final : public EmbeddingAnswer {
 public:
  EmbeddingList(const ServedModel& model, const OrderedJsonNode& body) : EmbeddingAnswer(model) {
    RequestFields fields(body);
    read_common(fields);
    fields.read("encoding_format", [&](const OrderedJsonNode& node) {
      base64_ = node.string() == "base64";
      if (!base64_ && node.string() != "float") node.expected("\"float\" or \"base64\"");
    });
    // No checkpoint says of itself that the beginning of its vectors is one of a text.
    fields.only("dimensions", model.chat().loaded().model->sizes.hidden_size);
    read_inputs(fields, "input");
    fields.finish();
  }
  void finish(Exchange& exchange) override {
    EmbeddingJson data = EmbeddingJson::array();
    for (size_t i = 0; i < embeddings_.size(); ++i)
      data.push_back({{"object", "embedding"}, {"index", i}, {"embedding", written(embeddings_[i])}});
    respond(exchange, {{"object", "list"}, {"data", std::move(data)}});
  }

 private:
  EmbeddingJson written(const std::vector<float>& x) const {
    static_assert(std::endian::native == std::endian::little, "base64 is of little-endian numbers");
    if (!base64_) return x;
    return encode_base64({reinterpret_cast<const char*>(x.data()), x.size() * sizeof(float)});
  }

  bool base64_ = false;
};

// Cosines of every vector of the first texts with every one of the second.
class SimilarityAnswer final : public EmbeddingAnswer {
 public:
  SimilarityAnswer(const ServedModel& model, const OrderedJsonNode& body) : EmbeddingAnswer(model) {
    RequestFields fields(body);
    read_common(fields);
    first_ = read_inputs(fields, "text_1");
    read_inputs(fields, "text_2");
    fields.finish();
  }
  void finish(Exchange& exchange) override {
    EmbeddingJson rows = EmbeddingJson::array();
    for (size_t i = 0; i < first_; ++i) {
      EmbeddingJson row = EmbeddingJson::array();
      for (size_t j = first_; j < embeddings_.size(); ++j)
        row.push_back(std::inner_product(
            embeddings_[i].begin(), embeddings_[i].end(), embeddings_[j].begin(), 0.0,
            [](double a, double b) { return a + b; }, [](double a, double b) { return a * b; }));
      rows.push_back(std::move(row));
    }
    respond(exchange, {{"object", "similarity"}, {"similarity", std::move(rows)}});
  }

 private:
  size_t first_ = 0;
};

}  // namespace

std::unique_ptr<Answer> make_embedding(const ServedModel& model, const OrderedJsonNode& body) {
  return std::make_unique<EmbeddingList>(model, body);
}

std::unique_ptr<Answer> make_similarity(const ServedModel& model, const OrderedJsonNode& body) {
  return std::make_unique<SimilarityAnswer>(model, body);
}

}  // namespace lathe
