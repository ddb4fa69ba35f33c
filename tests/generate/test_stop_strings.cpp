// Stop strings across the borders of pieces, against a search over the whole text.
#include "generate/stop_strings.h"
#include "tensor/errors.h"
#include "tensor/random.h"
#include "tests/catch.h"
#include "text/unicode/utf8.h"

using namespace lathe;

namespace {

// What the pieces give, put together.
std::string stopped(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  StopStrings matcher(stops);
  std::string text;
  for (const std::string& piece : pieces) text += matcher.push(piece);
  return text + matcher.finish();
}

// By definition: character by character, until one of them ends.
std::string oracle(const std::vector<std::string>& stops, const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const std::string& stop : stops)
      if (stop.size() <= end && text.compare(end - stop.size(), stop.size(), stop) == 0)
        longest = std::max(longest, stop.size());
    if (longest > 0) return text.substr(0, end - longest);
  }
  return text;
}

}  // namespace

TEST_CASE("a stop string is found across pieces and is no part of the text") {
  CHECK(stopped({"END"}, {"one E", "N", "D two"}) == "one ");
  CHECK(stopped({"END"}, {"one E", "N", "T"}) == "one ENT");
  CHECK(stopped({"END"}, {"EEN", "DD"}) == "E");
  CHECK(stopped({"END"}, {"EN"}) == "EN");
  CHECK(stopped({}, {"a", "b"}) == "ab");
  CHECK(stopped({"abcd", "bc"}, {"abcd"}) == "a");      // "bc" is complete first
  CHECK(stopped({"abcd", "bc"}, {"a", "bcd"}) == "a");  // wherever the borders lie
  CHECK(stopped({"cd", "abcd"}, {"xabc", "d"}) == "x");
  CHECK(stopped({"\n\n"}, {"a\n", "b\n", "\nc"}) == "a\nb");
}

TEST_CASE("only what may begin a stop string is held back") {
  StopStrings matcher({"\xc3\xa9t\xc3\xa9"});  // été
  CHECK(matcher.push("caf\xc3\xa9") == "caf");
  CHECK(matcher.push("s \xc3\xa9t") == "\xc3\xa9s ");
  CHECK_FALSE(matcher.found());
  CHECK(matcher.push("\xc3\xa9!") == "");
  CHECK(matcher.found());
  CHECK(matcher.push("more") == "");
  CHECK(matcher.finish() == "");
}

TEST_CASE("empty and broken stop strings are refused") {
  CHECK_THROWS_AS(StopStrings({""}), Error);
  CHECK_THROWS_AS(StopStrings({"ok", "\x80"}), Error);
}

TEST_CASE("any cut of any text gives what the definition says") {
  const auto number = [](uint64_t stream, uint64_t i, int below) {
    return static_cast<size_t>(random_uniform(5, stream, i) * below);
  };
  for (uint64_t round = 0; round < 3000; ++round) {
    uint64_t i = 0;
    const auto letters = [&](size_t count) {
      std::string s;
      while (s.size() < count) s += static_cast<char>('a' + number(round, i++, 2));
      return s;
    };
    std::vector<std::string> stops;
    for (size_t n = number(round, i++, 4); n > 0; --n) stops.push_back(letters(1 + number(round, i++, 5)));
    const std::string text = letters(number(round, i++, 16));
    std::vector<std::string> pieces;
    for (size_t at = 0; at < text.size();) {
      pieces.push_back(text.substr(at, number(round, i++, 4)));
      at += pieces.back().size();
    }
    INFO("round " << round << ", text " << text);
    REQUIRE(stopped(stops, pieces) == oracle(stops, text));
  }
}

TEST_CASE(
    "for every cut of bytes into tokens, stops and broken characters too, the stream is the answer in one piece") {
  const std::vector<std::string> letters = {"a", "b", "\xC3\xA9", "\xF0\x9F\x98\x80", "\x80", "\xE2\x82"};
  for (uint64_t round = 0; round < 150; ++round) {
    uint64_t i = 0;
    const auto drawn = [&](size_t below) {
      return static_cast<size_t>(random_uniform(9, round, i++) * static_cast<double>(below));
    };
    std::string bytes;
    while (bytes.size() < 9) bytes += letters[drawn(letters.size())];
    std::vector<std::string> stops;
    for (size_t n = drawn(4); n > 0; --n) {
      stops.push_back(letters[drawn(4)]);
      for (size_t more = drawn(3); more > 0; --more)
        stops.back() += drawn(4) == 0 ? std::string(kReplacement) : letters[drawn(4)];
    }
    std::string expected;
    for (uint64_t cuts = 0; cuts < uint64_t{1} << (bytes.size() - 1); ++cuts) {
      Utf8Repair repair;
      StopStrings stop(stops);
      std::string text;
      for (size_t at = 0; at < bytes.size();) {
        size_t end = at + 1;
        while (end < bytes.size() && (cuts >> (end - 1) & 1) == 0) ++end;
        const std::string piece = stop.push(repair.push(std::string_view(bytes).substr(at, end - at)));
        if (first_invalid_utf8(piece)) FAIL("a broken character in round " << round);
        text += piece;
        at = end;
      }
      if (!stop.found()) text += stop.push(repair.finish()) + stop.finish();
      if (cuts == 0) expected = text;
      if (text != expected) FAIL("round " << round << ", cuts " << cuts);
    }
  }
  SUCCEED();
}
