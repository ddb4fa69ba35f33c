// UTF-8: validation, characters (code points) one by one, repair of broken bytes.
#pragma once
#include <cstddef>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>

namespace lathe {

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
bool is_ascii(std::string_view text);

// What follows wants valid UTF-8.

// The character at `position`; moves `position` behind it.
char32_t next_character(std::string_view text, size_t& position);
// Whether a byte begins a character: the others continue one.
inline bool begins_character(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; }
// The number of bytes of the character that begins with `lead`.
size_t character_length(char lead);
size_t count_characters(std::string_view text);
// The byte at which character `index` begins, or text.size().
size_t character_offset(std::string_view text, size_t index);
// Where the character that ends before byte `end` (not 0) begins.
size_t previous_character(std::string_view text, size_t end);
void append_character(std::string& text, char32_t character);

// `for (const auto [code, bytes] : characters(text))`: each character with the bytes it is written in, parts of `text`.
struct Character {
  char32_t code;
  std::string_view bytes;
};
class Characters {
 public:
  class Iterator {
   public:
    Iterator(std::string_view text, size_t position) : text_(text), position_(position) {}
    Character operator*() const {
      size_t end = position_;
      const char32_t code = next_character(text_, end);
      return {code, text_.substr(position_, end - position_)};
    }
    Iterator& operator++() { return position_ += character_length(text_[position_]), *this; }
    bool operator!=(std::default_sentinel_t) const { return position_ < text_.size(); }

   private:
    std::string_view text_;
    size_t position_;
  };
  explicit Characters(std::string_view text) : text_(text) {}
  Iterator begin() const { return {text_, 0}; }
  std::default_sentinel_t end() const { return {}; }

 private:
  std::string_view text_;
};
inline Characters characters(std::string_view text) { return Characters(text); }
Characters characters(std::string&& text) = delete;  // would be gone before the loop begins

// Turns a stream of bytes into a stream of valid UTF-8 that never splits a character: incomplete ones wait for their
// rest, broken ones become U+FFFD as in Python's bytes.decode("utf-8", errors="replace").
class Utf8Repair {
 public:
  std::string push(std::string_view bytes);
  std::string finish();

 private:
  std::string pending_;  // an incomplete character, at most 3 bytes
};

}  // namespace lathe
