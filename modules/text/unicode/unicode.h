// UTF-8 and Unicode: validation, repair of broken bytes, normal forms, lower case, general categories.
//
// Properties and normal forms come from utf8proc; only white space and BERT's ideographs, which are fixed,
// are listed by hand.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace lathe {

inline constexpr const char* kSpaceSymbol = "\xE2\x96\x81";       // U+2581, which stands for a space
inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD, which stands for bytes that are no UTF-8

// What stands at the head of `bytes` (not empty): a whole character; bytes that can never begin one; or the beginning
// of a character that needs more bytes than there are. `length` counts the bytes of the character, of the maximal
// subpart (Unicode 15, section 3.9, table 3-8: what one U+FFFD replaces), or all that remain.
struct Utf8Head {
  enum class Kind { character, invalid, incomplete } kind;
  size_t length;
};
Utf8Head utf8_head(std::string_view bytes);

// The offset of the first byte that is not part of a valid character.
std::optional<size_t> first_invalid_utf8(std::string_view bytes);
// Throws Error naming `where` and the byte offset unless `text` is valid UTF-8.
void check_utf8(std::string_view text, const char* where);

// The character at `position` of valid UTF-8; moves `position` behind it.
char32_t next_character(std::string_view text, size_t& position);
// The number of bytes of the character that begins with `lead`, in valid UTF-8.
size_t character_length(char lead);
void append_character(std::string& text, char32_t character);

// Turns a stream of bytes into a stream of valid UTF-8 that never splits a character: incomplete ones wait for their
// rest, broken ones become U+FFFD as in Python's bytes.decode("utf-8", errors="replace").
class Utf8Repair {
 public:
  std::string push(std::string_view bytes);
  std::string finish();

 private:
  std::string pending_;  // an incomplete character, at most 3 bytes
};

enum class NormalForm { nfc, nfd, nfkc, nfkd };
// `text` must be valid UTF-8. Linear but for sorting runs of combining marks (n log n).
std::string normalize(std::string_view text, NormalForm form);

// Character by character, without context (a final sigma is a sigma), as Rust's char::to_lowercase.
std::string lowercase(std::string_view text);

// Where the extended grapheme cluster (Unicode Standard Annex 29) that begins at `begin` ends.
size_t grapheme_end(std::string_view text, size_t begin);

bool is_white_space(char32_t character);      // property White_Space
bool is_bert_ideograph(char32_t character);   // what BERT cuts out character by character
bool is_mark(char32_t character);             // general category M
bool is_nonspacing_mark(char32_t character);  // general category Mn
bool is_punctuation(char32_t character);      // general category P
bool is_control(char32_t character);          // general category Cc, Cf or Co: control, format, private use

}  // namespace lathe
