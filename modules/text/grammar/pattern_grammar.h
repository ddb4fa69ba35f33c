// Regular expressions as JSON Schema has them (ECMA-262, with the `u` flag): what of them is regular.
#pragma once
#include <string_view>

#include "text/grammar/json_grammar.h"

namespace lathe {

// What stands between the quotation marks of a JSON string whose text matches `pattern` (UTF-8), anywhere in it unless
// ^ and $ hold it. Taken are characters and their escapes, `.`, classes in brackets, \d \w \s \D \W \S, groups that are
// not named, |, the repetitions * + ? {n} {n,} {n,m} (lazy ones too: the same texts match), ^ at the beginning and $ at
// the end of an alternative of the whole. Throws Error naming anything else: look-around, references, \b, \p.
GrammarPart pattern_grammar(GrammarBuilder& builder, std::string_view pattern);

}  // namespace lathe
