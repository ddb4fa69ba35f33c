// Any bytes become valid UTF-8, wherever they are cut: beside the decoder of the WHATWG's Encoding Standard, 8.1.1.
#include "tests/catch.h"
#include "tests/support.h"
#include "text/unicode/utf8.h"

using namespace lathe;

namespace {

// Written after the standard's steps, byte by byte; U+FFFD for each error.
std::string whatwg_decoded(std::string_view bytes) {
  std::string text, character;
  int needed = 0;
  unsigned lower = 0x80, upper = 0xBF;
  for (size_t i = 0; i <= bytes.size(); ++i) {
    if (i == bytes.size()) return needed > 0 ? text + "\xEF\xBF\xBD" : text;
    const auto byte = static_cast<unsigned char>(bytes[i]);
    if (needed == 0) {
      character = bytes[i];
      if (byte <= 0x7F)
        text += bytes[i];
      else if (byte >= 0xC2 && byte <= 0xDF)
        needed = 1;
      else if (byte >= 0xE0 && byte <= 0xEF)
        needed = 2;
      else if (byte >= 0xF0 && byte <= 0xF4)
        needed = 3;
      else
        text += "\xEF\xBF\xBD";
      if (byte == 0xE0) lower = 0xA0;
      if (byte == 0xED) upper = 0x9F;
      if (byte == 0xF0) lower = 0x90;
      if (byte == 0xF4) upper = 0x8F;
      continue;
    }
    const bool continues = byte >= lower && byte <= upper;
    lower = 0x80, upper = 0xBF;
    if (!continues) {
      needed = 0;
      text += "\xEF\xBF\xBD";
      --i;  // the byte is looked at again
    } else {
      character += bytes[i];
      if (--needed == 0) text += character;
    }
  }
  return text;
}

std::string repaired(std::initializer_list<std::string_view> pieces) {
  Utf8Repair repair;
  std::string text;
  for (const std::string_view piece : pieces) text += repair.push(piece);
  return text + repair.finish();
}

}  // namespace

TEST_CASE("all sequences of one to three bytes are repaired as the Encoding Standard says, for every cut") {
  // Where the standard's ranges begin and end: under a sanitizer the third byte is one of these.
  const std::string borders(
      "\x00\x7F\x80\x8F\x90\x9F\xA0\xBF\xC1\xC2\xDF\xE0\xE1\xEC\xED\xEE\xEF\xF0\xF1\xF3\xF4\xF5\xFF", 23);
  std::string third = borders;
  if (!test::kSanitized)
    for (int c = 0; c < 256; ++c) third += static_cast<char>(c);
  int wrong = 0;
  for (int a = 0; a < 256; ++a) {
    const char one[] = {static_cast<char>(a)};
    wrong += repaired({{one, 1}}) != whatwg_decoded({one, 1});
    for (int b = 0; b < 256; ++b) {
      char bytes[] = {static_cast<char>(a), static_cast<char>(b), 0};
      const std::string expected = whatwg_decoded({bytes, 2});
      wrong += repaired({{bytes, 2}}) != expected || repaired({{bytes, 1}, {bytes + 1, 1}}) != expected;
      for (const char c : third) {
        bytes[2] = c;
        wrong += repaired({{bytes, 3}}) != whatwg_decoded({bytes, 3});
      }
    }
  }
  for (const char a : borders)
    for (const char b : borders)
      for (const char c : borders)
        for (const char d : borders) {
          const char bytes[] = {a, b, c, d};
          const std::string expected = whatwg_decoded({bytes, 4});
          wrong += first_invalid_utf8(expected).has_value();
          for (size_t i = 0; i <= 4; ++i)
            for (size_t j = i; j <= 4; ++j)
              wrong += repaired({{bytes, i}, {bytes + i, j - i}, {bytes + j, 4 - j}}) != expected;
        }
  CHECK(wrong == 0);
}
