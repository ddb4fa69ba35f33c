#include "text/tokenizer/byte_level_scheme.h"

#include <array>

#include "formats/quote.h"
#include "text/tokenizer/byte_alphabet.h"
#include "text/tokenizer/score_bpe.h"

namespace lathe {
namespace {

// Sources: openai/gpt-2, src/encoder.py; meta-llama/llama-models, llama3/tokenizer.py; Qwen/Qwen-7B,
// tokenization_qwen.py (which also brings the text into NFC). Llama's and Qwen's differ in how many digits stand
// together.
struct Known {
  const char* name;
  const char* pattern;
  bool nfc;
};
constexpr std::array kKnown = {
    Known{"gpt2", "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", false},
    Known{"llama3",
          "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
          "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
          false},
    Known{"qwen",
          "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
          "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
          true}};

}  // namespace

ByteLevelScheme find_byte_level_scheme(const std::string& name_or_pattern) {
  for (const Known& known : kKnown)
    if (name_or_pattern == known.name) return {known.name, known.pattern, known.nfc};
  constexpr std::string_view kWord = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
  if (name_or_pattern.find_first_not_of(kWord) == std::string::npos)
    throw Error(fmt::format("pattern: no pattern has the name {}", quote(name_or_pattern)),
                "known: gpt2, llama3, qwen; or a regular expression");
  return {"", name_or_pattern, false};
}

void apply_byte_level_scheme(const ByteLevelScheme& scheme, bool add_prefix_space, TokenizerParts& parts) {
  if (scheme.nfc) parts.normalizer = make_normalizer({{{"type", "NFC"}}, "normalizer"});
  std::vector<std::unique_ptr<PreTokenizer>> stages;
  if (add_prefix_space) {
    // GPT-2's own pre-tokeniser puts the space before it cuts.
    check(scheme.name == "gpt2", "tokenizer", "add_prefix_space is set, which only GPT-2's pattern goes with");
    stages.push_back(make_byte_level(true, true));
  } else {
    stages.push_back(make_split(Regex(scheme.pattern), SplitBehavior::isolated));
    stages.push_back(make_byte_level(false, false));
  }
  parts.pre_tokenizer = make_sequence(std::move(stages));
  parts.decoder = make_byte_level_decoder();
}

void show_added_tokens_as_bytes(TokenizerParts& parts) {
  for (const AddedToken& token : parts.added)
    if (std::string spelled = bytes_to_alphabet(token.content); spelled != token.content)
      parts.shown_as[token.id] = std::move(spelled);
}

std::unique_ptr<TokenModel> make_rank_bpe(std::shared_ptr<const Vocabulary> vocabulary, int64_t first_id) {
  for (int byte = 0; byte < 256; ++byte)
    check(vocabulary->find(bytes_to_alphabet(std::string(1, static_cast<char>(byte)))) >= 0, "ranks",
          "byte 0x{:02X} is no token: text with it could not be encoded", byte);
  std::vector<float> ranks(static_cast<size_t>(vocabulary->size()));
  for (size_t id = 0; id < ranks.size(); ++id) ranks[id] = static_cast<float>(static_cast<int64_t>(id) - first_id);
  return std::make_unique<ScoreBpe>(std::move(vocabulary), std::move(ranks), Vocabulary::kNone, ScoreBpe::Order::rank);
}

}  // namespace lathe
