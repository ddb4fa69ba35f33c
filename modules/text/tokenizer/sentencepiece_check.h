// What the sentencepiece library does not check in a model before it uses it.
//
// The library reads the compiled normalisation rules without looking where their offsets lead (0.1.97: a wrong one
// reads, and crashes, outside of them), so a model of a stranger is looked through first. The format is protobuf's
// (sentencepiece_model.proto); only the fields that matter are read.
#pragma once
#include <string>
#include <string_view>

namespace lathe {

// Throws Error naming `path` when handing `model` to the library would not be safe. Tells what the library does not:
// whether the model is of type Unigram, whose scores are log probabilities.
bool check_sentencepiece_model(std::string_view model, const std::string& path);

}  // namespace lathe
