// The Unicode room: UTF-8 checked, walked and repaired, normal forms, letter case, classes, and Python's view of them.
#include <string>
#include <string_view>
#include <vector>

#include "tensor/errors.h"
#include "tests/catch.h"
#include "text/unicode/python_text.h"
#include "text/unicode/unicode.h"
#include "text/unicode/unicode_scripts.h"

using namespace lathe;
using Catch::Matchers::ContainsSubstring;

namespace {

std::string repaired(std::string_view bytes, size_t cut) {
  Utf8Repair repair;
  std::string text = repair.push(bytes.substr(0, cut));
  text += repair.push(bytes.substr(cut));
  return text + repair.finish();
}

}  // namespace

TEST_CASE("characters of a text, with their bytes and places") {
  const std::string text = "a\u00e9\u65e5\U0001f600";
  std::vector<char32_t> codes;
  std::string joined;
  for (const auto [code, bytes] : characters(text)) {
    codes.push_back(code);
    joined += bytes;
  }
  CHECK(codes == std::vector<char32_t>{'a', 0xE9, 0x65E5, 0x1F600});
  CHECK(joined == text);
  CHECK(count_characters(text) == 4);
  CHECK(character_offset(text, 0) == 0);
  CHECK(character_offset(text, 2) == 3);
  CHECK(character_offset(text, 4) == text.size());
  CHECK(character_offset(text, 9) == text.size());
  CHECK(previous_character(text, text.size()) == 6);
  CHECK(previous_character(text, 6) == 3);
  CHECK(previous_character(text, 1) == 0);
  std::string written;
  for (const char32_t code : codes) append_character(written, code);
  CHECK(written == text);
}

TEST_CASE("broken UTF-8 is repaired as Python's errors=\"replace\" does, wherever it is cut") {
  // The right sides are what bytes.decode("utf-8", "replace") returns.
  const std::vector<std::pair<std::string, std::string>> cases = {{"\xff", "\ufffd"},
                                                                  {"a\xc3(b", "a\ufffd(b"},
                                                                  {"\xe2\x82", "\ufffd"},
                                                                  {"\xf0\x9f\x98", "\ufffd"},
                                                                  {"\xed\xa0\x80", "\ufffd\ufffd\ufffd"},
                                                                  {"\xc0\xaf", "\ufffd\ufffd"},
                                                                  {"\xf5\x80\x80\x80", "\ufffd\ufffd\ufffd\ufffd"},
                                                                  {"ok\x80\x80ok", "ok\ufffd\ufffdok"},
                                                                  {"\xf0\x9f\x98\x80\xf0\x9f", "\U0001f600\ufffd"},
                                                                  {"\xf0\x9f\x41",
                                                                   "\ufffd"
                                                                   "A"},
                                                                  {"\xe0\x9f\xbf", "\ufffd\ufffd\ufffd"},
                                                                  {"\xf4\x90\x80\x80", "\ufffd\ufffd\ufffd\ufffd"},
                                                                  {"\xef\xbf\xbe", "\xef\xbf\xbe"}};
  for (const auto& [bytes, text] : cases)
    for (size_t cut = 0; cut <= bytes.size(); ++cut) CHECK(repaired(bytes, cut) == text);
}

TEST_CASE("check_utf8 names the offset of the first broken byte") {
  CHECK_NOTHROW(check_utf8("plain, \u00e9, \u65e5\u672c, \U0001f600", "here"));
  CHECK_THROWS_WITH(check_utf8("abc\xc3(", "here"), ContainsSubstring("byte 0xc3 at offset 3"));
  CHECK_THROWS_WITH(check_utf8("abc\xe2\x82", "here"), ContainsSubstring("offset 3"));
}

TEST_CASE("normal forms") {
  CHECK(normalize("plain", NormalForm::nfc) == "plain");
  CHECK(normalize("e\u0301 A\u030a \u1112\u1161\u11ab", NormalForm::nfc) == "\u00e9 \u00c5 \ud55c");
  CHECK(normalize("\u00e9\ud55c", NormalForm::nfd) == "e\u0301\u1112\u1161\u11ab");
  CHECK(normalize("\ufb01 \u2460 \uff46", NormalForm::nfkc) == "fi 1 f");
  CHECK(normalize("\ufb01\u00e9", NormalForm::nfkd) == "fie\u0301");
  CHECK(normalize("a\u0301\u0323", NormalForm::nfd) == "a\u0323\u0301");  // canonical order
  // An ASCII letter composes with what follows it although the stretch before is copied.
  CHECK(normalize("xxxe\u0301xxx", NormalForm::nfc) == "xxx\u00e9xxx");
  std::string marks = "a";
  for (int i = 0; i < 100000; ++i) marks += i % 2 ? "\u0323" : "\u0301";
  CHECK(normalize(marks, NormalForm::nfd).size() == marks.size());  // in no time: the sort is n log n
}

TEST_CASE("lower case is by character") { CHECK(lowercase("\u0130\u03a3A\u00c9") == "i\u0307\u03c3a\u00e9"); }

TEST_CASE("categories and normal forms are those of the reference's Unicode versions") {
  CHECK(lowercase("\ua7dc\U00010d50") == "\u019b\U00010d70");      // Unicode 16
  CHECK(normalize("\u32ff", NormalForm::nfkc) == "\u32ff");        // a square era name of Unicode 12.1
  CHECK(normalize("\u337b", NormalForm::nfkc) == "\u5e73\u6210");  // one that was always there
  CHECK(is_nonspacing_mark_in_unicode_8(0x301));
  CHECK(!is_nonspacing_mark_in_unicode_8(0x1DFB));
  CHECK(is_nonspacing_mark_in_unicode_8(0x1734));
  CHECK(is_mark_in_unicode_9(0x1DFB));
  CHECK(!is_mark_in_unicode_9(0x898));
  CHECK(is_punctuation_in_unicode_8(0x166D));
  CHECK(!is_punctuation_in_unicode_8(0x2E52));
  CHECK(is_control_in_unicode_8(0xE000));
  CHECK(script_class('a') == script_class(0xE9));
  CHECK(script_class(0x3042) == script_class(0x4E00));
  CHECK(script_class(' ') == 0);
}

TEST_CASE("graphemes") {
  auto graphemes = [](std::string_view text) {
    std::vector<size_t> lengths;
    for (size_t begin = 0, end = 0; begin < text.size(); begin = end) {
      end = grapheme_end(text, begin);
      lengths.push_back(end - begin);
    }
    return lengths;
  };
  CHECK(graphemes("a\r\nb\n") == std::vector<size_t>{1, 2, 1, 1});
  CHECK(graphemes("e\u0301\u0323x") == std::vector<size_t>{5, 1});
  CHECK(graphemes("\U0001F1E9\U0001F1EA\U0001F1EB") == std::vector<size_t>{8, 4});
  CHECK(graphemes("\U0001F469\u200d\U0001F52C") == std::vector<size_t>{11});
}

TEST_CASE("letter case") {
  CHECK(fold_case("Stra\u00dfe \u03a3\u03c2 \u0130\ufb01") == "strasse \u03c3\u03c3 i\u0307fi");
  // As Python's str: a sigma at the end of a word, title case of what has one, full mappings of Latin ligatures.
  CHECK(python::upper("stra\u00dfe \ufb03 \u01c6") == "STRASSE FFI \u01c4");
  CHECK(python::lower("\u0391\u03a3 \u0391\u03a3\u0391 \u03a3") == "\u03b1\u03c2 \u03b1\u03c3\u03b1 \u03c3");
  CHECK(python::capitalize("\u01c6A\u03a3") == "\u01c5a\u03c2");
  CHECK(python::title("they're \u00dfa \ufb01N") == "They'Re Ssa Fin");
  CHECK(python::title("").empty());
}

TEST_CASE("classes of characters, Unicode's and Python's") {
  CHECK((is_letter(0xAA) && is_letter(0x4E00) && !is_letter(0x300)));
  CHECK((is_uppercase(0xC9) && is_lowercase(0xE9) && is_titlecase(0x1C5) && !is_uppercase(0x1C5)));
  CHECK((is_decimal(0x663) && is_numeric(0xBD) && !is_decimal(0xBD)));
  CHECK((python::is_digit(0xB2) && python::is_digit(0x2460) && !python::is_digit(0xBD)));
  CHECK((python::is_space(0x1C) && !is_white_space(0x1C) && python::is_space(0xA0) && !python::is_space(0x200B)));
  CHECK((python::is_line_break(0x2028) && python::is_line_break('\r') && !python::is_line_break('\t')));
  CHECK((python::is_printable(' ') && python::is_printable(0xE9) && !python::is_printable(0xA0)));
  CHECK((!python::is_printable(0xAD) && !python::is_printable(0x378) && !python::is_printable(0xE000)));
  CHECK((python::is_word('_') && python::is_word(0x301) && python::is_word(0xBD) && !python::is_word('-')));
}

TEST_CASE("strip takes white space or given characters from either side") {
  using python::Side;
  const std::string given = "x\u00e9";
  CHECK(python::strip("\u3000\u00a0 a b\n", Side::both) == "a b");
  CHECK(python::strip(" a ", Side::left) == "a ");
  CHECK(python::strip(" a ", Side::right) == " a");
  CHECK(python::strip("\u00e9xa\u00e8x", Side::both, &given) == "a\u00e8");
  CHECK(python::strip(" \n", Side::both).empty());
}
