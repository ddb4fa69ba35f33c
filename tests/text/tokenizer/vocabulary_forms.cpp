#include "tests/text/tokenizer/vocabulary_forms.h"

#include <fmt/format.h>

#include "tests/support.h"
#include "text/tokenizer/byte_alphabet.h"
#include "text/unicode/unicode.h"

namespace lathe::test {

std::vector<std::string> byte_tokens() {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  for (const char* token : {" w", "he", "ll", "hell", "hello", "\u00e9"}) tokens.emplace_back(token);
  return tokens;
}

std::string encode_base64(std::string_view bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j)
      group = group << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0u);
    for (size_t j = 0; j < 4; ++j) text += i + j <= bytes.size() ? kDigits[group >> (18 - 6 * j) & 63] : '=';
  }
  return text;
}

std::string tiktoken_ranks(const std::vector<std::string>& tokens) {
  std::string lines;
  for (size_t rank = 0; rank < tokens.size(); ++rank)
    lines += fmt::format("{} {}\n", encode_base64(tokens[rank]), rank);
  return lines;
}

Json tekken_json(const std::vector<std::string>& tokens, int special, const Json& named, const char* version) {
  Json vocabulary = Json::array();
  for (size_t rank = 0; rank < tokens.size(); ++rank)
    vocabulary.push_back({{"rank", rank}, {"token_bytes", encode_base64(tokens[rank])}, {"token_str", nullptr}});
  Json json = {{"config",
                {{"pattern", " ?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"},
                 {"num_vocab_tokens", tokens.size()},
                 {"default_vocab_size", tokens.size() + static_cast<size_t>(special)},
                 {"default_num_special_tokens", special},
                 {"version", version}}},
               {"vocab", vocabulary}};
  if (named.is_null()) return json;
  json["special_tokens"] = Json::array();
  for (size_t i = 0; i < named.size(); ++i)
    json["special_tokens"].push_back({{"rank", i}, {"token_str", named[i]}, {"is_control", true}});
  return json;
}

void write_two_files(const std::filesystem::path& folder, const char* vocabulary, const char* merges) {
  Json ids = Json::object();
  const auto tokens = byte_tokens();
  for (size_t id = 0; id < tokens.size(); ++id) ids[bytes_to_alphabet(tokens[id])] = id;
  ids["<|endoftext|>"] = tokens.size();
  write_json(folder, ids, vocabulary);
  write_file(folder / merges, "#version: 0.2\n\u0120 w\nh e\nl l\nhe ll\nhell o\n" + bytes_to_alphabet("\xC3") + " " +
                                  bytes_to_alphabet("\xA9") + "\n");
}

std::string random_text(std::mt19937& random, int length) {
  const auto pick = [&](uint32_t count) { return static_cast<uint32_t>(random() % count); };
  // Joiners, marks, marks of direction, variation selectors, white space of every kind, noncharacters, a Hangul jamo,
  // the space symbol of sentencepiece, and letters whose normal forms or cases differ.
  constexpr char32_t kHard[] = {0x0,    0x9,    0xA,    0xD,    0x1B,    0x85,    0xA0,    0xAD,    0x130,   0x17F,
                                0x1E9E, 0x300,  0x301,  0x323,  0x345,   0x5B0,   0x64B,   0x93C,   0xE31,   0x1100,
                                0x1161, 0x11A8, 0x180E, 0x200B, 0x200C,  0x200D,  0x200E,  0x2028,  0x202E,  0x2060,
                                0x20E3, 0x2126, 0x212B, 0x2581, 0x3000,  0xAC00,  0xFB01,  0xFDFA,  0xFE0F,  0xFEFF,
                                0xFFFD, 0xFFFE, 0xFFFF, 0xE000, 0x1F1E6, 0x1F468, 0x1F3FB, 0x1D15E, 0xE0101, 0x10FFFF};
  std::string text;
  const int characters = static_cast<int>(pick(static_cast<uint32_t>(length)));
  for (int i = 0; i < characters; ++i) {
    switch (pick(5)) {
      case 0: append_character(text, kHard[pick(std::size(kHard))]); break;
      case 1: append_character(text, pick(0x800)); break;
      case 2: {
        const char32_t c = pick(0x110000);
        append_character(text, c >= 0xD800 && c < 0xE000 ? U'x' : c);
        break;
      }
      default: text += "hello  wHELO\n.,1'"[pick(17)]; break;
    }
  }
  return text;
}

}  // namespace lathe::test
