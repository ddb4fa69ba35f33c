#include "text/tokenizer/byte_alphabet.h"

#include <array>
#include <cstdint>

#include "text/unicode/unicode.h"

namespace lathe {
namespace {

struct Alphabet {
  std::array<char32_t, 256> character{};
  std::array<int16_t, 256 + 68> byte{};  // by character, -1 for those outside

  Alphabet() {
    byte.fill(-1);
    char32_t next = 256;
    for (int b = 0; b < 256; ++b) {
      const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      const char32_t c = printable ? static_cast<char32_t>(b) : next++;
      character[static_cast<size_t>(b)] = c;
      byte[c] = static_cast<int16_t>(b);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet alphabet;
  return alphabet;
}

}  // namespace

void append_to_alphabet(std::string& text, std::string_view bytes) {
  const Alphabet& letters = alphabet();
  for (char b : bytes) {
    const char32_t c = letters.character[static_cast<unsigned char>(b)];
    if (c < 0x80) {
      text += static_cast<char>(c);
    } else {
      text += static_cast<char>(0xC0 | c >> 6);
      text += static_cast<char>(0x80 | (c & 0x3F));
    }
  }
}

std::string bytes_to_alphabet(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() + bytes.size() / 4);
  append_to_alphabet(text, bytes);
  return text;
}

std::optional<std::string> alphabet_to_bytes(std::string_view text) {
  const Alphabet& letters = alphabet();
  std::string bytes;
  bytes.reserve(text.size());
  for (size_t position = 0; position < text.size();) {
    const char32_t c = next_character(text, position);
    if (c >= letters.byte.size() || letters.byte[c] < 0) return std::nullopt;
    bytes += static_cast<char>(letters.byte[c]);
  }
  return bytes;
}

}  // namespace lathe
