// See write_tokenizer.h. Written piece by piece: an ordered document would compare each token with all before it.
#include "text/tokenizer/write_tokenizer.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace lathe {
namespace {

std::string quoted(const std::string& text) { return nlohmann::json(text).dump(); }

// `items` with what stands between them, each on a line of its own.
template <class Items, class Show>
std::string lines(const Items& items, const char* indent, const Show& show) {
  std::string text;
  for (size_t i = 0; i < items.size(); ++i) text += fmt::format("{}\n{}{}", i ? "," : "", indent, show(i));
  return text;
}

}  // namespace

std::string tokenizer_json(const NewVocabulary& vocabulary) {
  const std::vector<std::string>& tokens = vocabulary.tokens;
  const std::vector<std::string> special(tokens.begin(), tokens.begin() + vocabulary.special);
  const std::string added = lines(special, "    ", [&](size_t id) {
    return fmt::format(
        "{{\"id\": {}, \"content\": {}, \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
        "\"normalized\": false, \"special\": true}}",
        id, quoted(special[id]));
  });
  const std::string vocab =
      lines(tokens, "      ", [&](size_t id) { return fmt::format("{}: {}", quoted(tokens[id]), id); });
  const std::string merges = lines(vocabulary.merges, "      ", [&](size_t rank) {
    const auto& [left, right] = vocabulary.merges[rank];
    return fmt::format("[{}, {}]", quoted(tokens[static_cast<size_t>(left)]),
                       quoted(tokens[static_cast<size_t>(right)]));
  });
  const char* bytes =
      "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": true}";
  return fmt::format(R"({{
  "version": "1.0",
  "truncation": null,
  "padding": null,
  "added_tokens": [{}],
  "normalizer": null,
  "pre_tokenizer": {},
  "post_processor": null,
  "decoder": {},
  "model": {{
    "type": "BPE",
    "dropout": null,
    "unk_token": null,
    "continuing_subword_prefix": null,
    "end_of_word_suffix": null,
    "fuse_unk": false,
    "byte_fallback": false,
    "ignore_merges": false,
    "vocab": {{{}
    }},
    "merges": [{}]
  }}
}}
)",
                     added, vocabulary.byte_level ? bytes : "null",
                     vocabulary.byte_level ? bytes : "{\"type\": \"Fuse\"}", vocab, merges);
}

std::string tokenizer_config_json(const NewVocabulary& vocabulary) {
  nlohmann::ordered_json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                                   {"clean_up_tokenization_spaces", false}};
  if (vocabulary.special > 0) config["eos_token"] = vocabulary.tokens.front();
  return config.dump(2) + "\n";
}

}  // namespace lathe
