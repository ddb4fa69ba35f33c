// What a caller may choose of a request besides its prompt, and the one list of it: the flags of the command line, the
// keys of request files and the keywords of Python are made of RequestOptions::visit.
#pragma once
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/json_node.h"
#include "generate/request.h"

namespace lathe {

// What is said of an option beside its type and its default, which are those of its field.
struct OptionFacts {
  static constexpr double kUnbounded = std::numeric_limits<double>::max(), kCount = 1099511627776.0;  // 2^40
  const char* name;  // words joined by _
  const char* description;
  double lowest = -kUnbounded, highest = kUnbounded;  // of a number
  bool above_lowest = false;                          // `lowest` itself is none

  bool admits(double value) const {  // false for NaN
    return value <= highest && (above_lowest ? value > lowest : value >= lowest);
  }
  std::string range() const;  // "from 0 to 1", "above 0 and finite"
};

// What is not chosen is the model's own.
struct SamplingChoices {
  bool greedy = false;  // temperature 0, and no repetition penalty but one that is chosen here
  std::optional<double> temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<int64_t> top_k;
  std::optional<uint64_t> seed;

  // f(choice, facts, the parameter that it chooses) for each; `self` may be const.
  template <class Self, class F>
  static void visit(Self& self, const F& f) {
    using P = SamplingParameters;
    constexpr double kMost = OptionFacts::kUnbounded, kCount = OptionFacts::kCount;
    f(self.temperature, OptionFacts{"temperature", "divides the logits; 0: greedy", 0, kMost}, &P::temperature);
    f(self.top_k, OptionFacts{"top_k", "only the k most probable tokens; 0: all", 0, kCount}, &P::top_k);
    f(self.top_p, OptionFacts{"top_p", "only the most probable tokens that reach p together", 0, 1}, &P::top_p);
    f(self.min_p, OptionFacts{"min_p", "only tokens of at least this share of the highest probability", 0, 1},
      &P::min_p);
    f(self.repetition_penalty,
      OptionFacts{"repetition_penalty", "divides the logits of tokens seen; 1: none", 0, kMost, true},
      &P::repetition_penalty);
    f(self.presence_penalty, OptionFacts{"presence_penalty", "subtracted once from tokens of the answer"},
      &P::presence_penalty);
    f(self.frequency_penalty, OptionFacts{"frequency_penalty", "subtracted for every occurrence in the answer"},
      &P::frequency_penalty);
    f(self.seed, OptionFacts{"seed", "of the random numbers; default: chosen and reported", 0, 18446744073709551615.0},
      &P::seed);
  }

  SamplingParameters over(SamplingParameters defaults) const;
};

// Throws RequestError naming the parameter, its range and the value found.
void validate(const SamplingParameters& parameters);

struct RequestOptions : SamplingChoices {
  int64_t max_new_tokens = Request().max_new_tokens, num_sequences = 1;
  bool ignore_eos = false, skip_special_tokens = false;
  std::optional<int64_t> logprobs;
  std::vector<std::string> stop;
  std::optional<std::string> json_schema;  // its text

  // f(field, facts, ...) for each option, in the order of the help. A field is a bool, an int64_t, an optional number,
  // a list of texts, or JSON as an optional text.
  template <class Self, class F>
  static void visit(Self& self, const F& f) {
    constexpr double kCount = OptionFacts::kCount, kSequences = Request::kMostSequences;
    f(self.max_new_tokens, OptionFacts{"max_new_tokens", "longest answer", 1, kCount});
    f(self.greedy, OptionFacts{"greedy", "always the most probable token"});
    SamplingChoices::visit(self, f);
    f(self.stop, OptionFacts{"stop", "a text that ends the answer; may be repeated"});
    f(self.json_schema, OptionFacts{"json_schema", "JSON Schema that the answer satisfies"});
    f(self.ignore_eos, OptionFacts{"ignore_eos", "go on past end tokens"});
    f(self.skip_special_tokens, OptionFacts{"skip_special_tokens", "leave special tokens out of the text"});
    f(self.num_sequences, OptionFacts{"num_sequences", "answers to each prompt", 1, kSequences});
    f(self.logprobs,
      OptionFacts{"logprobs", "log-probabilities of the k most probable tokens at each step", 0, kCount});
  }

  // Overrides what the object `json` names, in the spelling of the options with _ or -; null is the same as absent.
  // Throws Error naming the key where it is no option or its value is none.
  void read(const OrderedJsonNode& json);
  // The one option `name`, from a value that is not null; false where there is none of that name.
  bool read(std::string_view name, const OrderedJsonNode& value);
  // `request` has the model's own sampling; greedy and what is chosen here come first. Throws RequestError where
  // json_schema is none, or asks for what is not supported.
  Request over(Request request) const;
};

}  // namespace lathe
