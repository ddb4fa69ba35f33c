// How a text becomes ids, step by step: what `lathe tokenize --explain` shows.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "text/tokenizer/model.h"

namespace lathe {

struct Explanation {
  // What the pre-tokeniser hands to the model, as it spells it (byte-level ones in GPT-2's alphabet), and what the
  // model makes of it; or, with `added`, a token that was found in the normalised text.
  struct Piece {
    std::string text;
    bool added = false;
    std::vector<ModelStep> steps;  // places are bytes of `text`
    std::vector<int32_t> ids;
  };
  // The text between two added tokens; or, with `token`, one of those, which is not looked at any further.
  struct Stretch {
    std::string text;
    int32_t token = -1;
    std::string normalized;  // equal to `text` where there is no normaliser
    std::vector<Piece> pieces;
  };

  std::vector<int32_t> before, after;  // the special tokens put round the text
  std::vector<Stretch> stretches;
  std::string measure;  // of the steps' weights: "rank", "score", "log probability", or nothing
  std::vector<int32_t> ids() const;
};

}  // namespace lathe
