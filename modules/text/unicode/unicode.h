// Characters as Unicode sees them: normal forms, letter case, grapheme clusters, general categories.
//
// Properties, mappings and normal forms come from utf8proc; only white space and BERT's ideographs, which are fixed,
// are listed by hand, and the few mappings of one character to several.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

#include "text/unicode/utf8.h"

namespace lathe {

inline constexpr const char* kSpaceSymbol = "\xE2\x96\x81";  // U+2581, which stands for a space

enum class NormalForm { nfc, nfd, nfkc, nfkd };
// `text` must be valid UTF-8. Linear but for sorting runs of combining marks (n log n).
std::string normalize(std::string_view text, NormalForm form);

// One character by itself (a final sigma is a sigma), as Rust's char::to_lowercase and to_uppercase: of the mappings to
// several characters those of Latin letters, not those of Armenian and polytonic Greek (SpecialCasing.txt).
enum class LetterCase { upper, lower, title };
void append_in_case(std::string& text, char32_t character, LetterCase letter_case);
std::string lowercase(std::string_view text);
std::string fold_case(std::string_view text);  // for comparison without regard to case: "\u00df" is "ss"

// Where the extended grapheme cluster (Unicode Standard Annex 29) that begins at `begin` ends.
size_t grapheme_end(std::string_view text, size_t begin);

bool is_white_space(char32_t character);      // property White_Space
bool is_bert_ideograph(char32_t character);   // what BERT cuts out character by character
bool is_letter(char32_t character);           // general category L
bool is_uppercase(char32_t character);        // general category Lu
bool is_lowercase(char32_t character);        // general category Ll
bool is_titlecase(char32_t character);        // general category Lt
bool is_decimal(char32_t character);          // general category Nd
bool is_numeric(char32_t character);          // general category N
bool is_mark(char32_t character);             // general category M
bool is_nonspacing_mark(char32_t character);  // general category Mn
bool is_punctuation(char32_t character);      // general category P
bool is_control(char32_t character);          // general category Cc, Cf or Co: control, format, private use
bool is_visible(char32_t character);          // neither a separator nor of general category C, unassigned among these

}  // namespace lathe
