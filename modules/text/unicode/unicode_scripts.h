// The scripts of characters as sentencepiece tells them apart, and the pre-tokeniser UnicodeScripts with it: those of
// Unicode 9 (Scripts.txt, 9.0.0), with kana counted as Han. Later characters belong to no script, and so end no piece.
//
// A table of its own, because ids depend on it: libraries go on with Unicode, these vocabularies do not. It also tells
// which characters Unicode 9 had, the version that the normal forms and accents of `tokenizers` stand at.
#pragma once
#include <cstdint>

namespace lathe {

// A number for the script of `character`; 0 for those that belong to none, among them the space.
int script_class(char32_t character);

// Private use counts as assigned.
bool assigned_in_unicode_9(char32_t character);

// General categories as they were in the versions at which parts of `tokenizers` stand: characters that came later have
// none, and a handful has another one today.
bool is_mark_in_unicode_9(char32_t character);             // M
bool is_nonspacing_mark_in_unicode_8(char32_t character);  // Mn
bool is_punctuation_in_unicode_8(char32_t character);      // P
bool is_control_in_unicode_8(char32_t character);          // Cc, Cf or Co

}  // namespace lathe
