// What turns one piece of pre-tokenised text into ids.
#pragma once
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

// One step of a model on a piece, for a person who wants to see how the ids came about.
struct ModelStep {
  enum class Kind {
    symbol,  // what the piece begins as, from left to right, before anything merges
    merge,   // the symbols [begin, middle) and [middle, end) become one
    token,   // [begin, end) is taken as the token `id`, from left to right; empty for a byte of a character
  } kind;
  size_t begin, middle, end;                                 // bytes of the piece; `middle` of merges alone
  int32_t id;                                                // -1: the stretch is no token (yet)
  double weight = std::numeric_limits<double>::quiet_NaN();  // in the model's `measure`; NaN: none
};

// A model as other formats hold it.
struct PublishedModel {
  std::vector<std::string> merges;  // "left right", by rank
  std::vector<int32_t> results;     // the token that each of them makes
  std::vector<float> scores;        // by id; empty for a model by ranks
  int32_t unknown = -1;
  bool byte_fallback = false, ignore_merges = false;
};

class TokenModel {
 public:
  virtual ~TokenModel() = default;
  // Appends the ids of `piece` (valid UTF-8, not empty). Thread-safe.
  virtual void tokenize(std::string_view piece, std::vector<int32_t>& ids) const = 0;

  // The same ids, and the steps that led to them: from the code that `tokenize` runs, never from a second one beside
  // it. A model that cannot tell returns no steps.
  virtual std::vector<ModelStep> explain(std::string_view piece, std::vector<int32_t>& ids) const {
    tokenize(piece, ids);
    return {};
  }
  // Empty for a model that no other format has.
  virtual std::optional<PublishedModel> publish() const { return std::nullopt; }
  // What the weights of steps are: "rank", "score", "log probability"; empty where they have none.
  virtual const char* measure() const { return ""; }
};

}  // namespace lathe
