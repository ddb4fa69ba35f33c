// The scripts of characters as sentencepiece tells them apart, and the pre-tokeniser UnicodeScripts with it: those of
// Unicode 9 (Scripts.txt, 9.0.0), with kana counted as Han. Later characters belong to no script, and so end no piece.
//
// A table of its own, because ids depend on it: libraries go on with Unicode, these vocabularies do not.
#pragma once
#include <cstdint>

namespace lathe {

// A number for the script of `character`; 0 for those that belong to none, among them the space.
int script_class(char32_t character);

}  // namespace lathe
