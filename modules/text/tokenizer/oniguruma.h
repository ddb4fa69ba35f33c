// From Oniguruma's regular expressions, for which tokenizer files are written, to PCRE2's.
//
// Understood, with Oniguruma's meaning (its doc/RE, syntax ONIG_SYNTAX_ONIGURUMA):
//   characters   \t \n \r \f \v \a \e, \nnn, \xHH, \x{H..}, \uHHHH, \cX, and any punctuation behind a backslash
//   classes      . \w \W \s \S \d \D \h \H \R \N \O, \p{..} \P{..} \p{^..}: general categories by short and long
//   name,
//                scripts, binary properties, the POSIX names
//   brackets     ranges, negation, nesting [a[b-c]], intersection [a-z&&[^aeiou]], [:name:] [:^name:], classes within
//   repeats      ? * + {n} {n,} {n,m} {,m}, lazy and possessive ({n,m}+ repeats the whole, {n}? makes it optional)
//   anchors      ^ $ (at every line) \A \z \Z \G \b \B \K, lookaround, atomic groups
//   groups       (..) (?:..) (?<name>..), options i, m and x for a group or to its end, (?#..), conditions, \1 \k<n>
//   \g<n>
// Everything else is an Error that names it: graphemes (\X: PCRE2 10.42 joins emoji) and their boundaries \y, absent
// operators, callouts, options of ASCII, properties that PCRE2 lacks (Unicode blocks).
//
// Two things differ: under option i a letter that folds to several (ß and ss) matches itself alone, and brackets with
// properties or negations inside fold as PCRE2 does.
//
// PCRE2 has no nested classes: one that is more than a list becomes an alternation, an intersection a lookahead. The
// surprising one: \p{Han} is a script in Oniguruma, in PCRE2 all that is used with it, the ideographic comma too.
#pragma once
#include <string>
#include <string_view>

namespace lathe {

// The PCRE2 form of `pattern` (valid UTF-8), to be compiled with PCRE2_UTF, PCRE2_UCP and PCRE2_MULTILINE.
std::string translate_oniguruma(std::string_view pattern);

}  // namespace lathe
