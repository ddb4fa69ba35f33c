// The strict reader of JSON, of JSON Lines and of their numbers.
#include <fmt/core.h>

#include "formats/json_node.h"
#include "formats/strict_json.h"
#include "tests/catch.h"

using namespace lathe;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::Equals;

namespace {

std::string json_refusal(const std::string& text) {
  try {
    parse_strict_json(text, "a.json");
    return {};
  } catch (const Error& e) {
    return e.what();
  }
}

// "where=value" of each line, or the complaint.
std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  try {
    for_each_json_line(text, "f", [&](const nlohmann::ordered_json& value, const std::string& where) {
      lines.push_back(where + "=" + value.dump());
    });
  } catch (const Error& e) {
    lines.push_back(e.what());
  }
  return lines;
}

// What reading the member "n" of {"n": `number`} as an integer gives, or the complaint.
template <class Read>
std::string read(const std::string& number, Read read_number) {
  const nlohmann::json document = parse_strict_json("{\"n\": " + number + "}", "a.json");
  try {
    return fmt::format("{}", read_number(JsonNode(document, "a.json").at("n")));
  } catch (const Error& e) {
    return e.what();
  }
}

}  // namespace

TEST_CASE("JSON: a syntax error is told with its place, in plain words") {
  CHECK(json_refusal("\xEF\xBB\xBF[1]").empty());
  CHECK_THAT(json_refusal("{\"a\": ]}"), Equals("a.json: parse error at column 7: unexpected ']'"));
  CHECK_THAT(json_refusal("{\n \"a\": tru\n}"), Equals("a.json: parse error at line 2, column 10: unexpected '\\x0a'"));
  CHECK_THAT(json_refusal("[1, 2"), Equals("a.json: parse error at column 6: the text ends too early"));
  CHECK_THAT(json_refusal("[1] 2"), ContainsSubstring("column 5: unexpected '2'"));
  CHECK_THAT(json_refusal("\"\xFF\""), ContainsSubstring("column 2: unexpected '\\xff'"));
  CHECK_THAT(json_refusal("[NaN]"), ContainsSubstring("parse error"));
  CHECK_THAT(json_refusal("[1e999]"), Equals("a.json: a number is beyond the range of float64"));
  CHECK_THAT(json_refusal("{\"a\": {\"b\": 1, \"b\": 2}}"), Equals("a.json: the key 'b' appears twice in one object"));
  CHECK_THAT(json_refusal(std::string(65, '[')), ContainsSubstring("nested deeper than 64 levels"));
}

TEST_CASE("JSON: keys keep their order where it is asked for") {
  CHECK(parse_ordered_json(R"({"b": 1, "a": 2})", "x").dump() == R"({"b":1,"a":2})");
  CHECK_THROWS_WITH(parse_ordered_json(R"({"b": 1, "b": 2})", "x"),
                    Equals("x: the key 'b' appears twice in one object"));
}

TEST_CASE("JSON Lines: ends of lines, blank ones, a byte order mark, and whose line is wrong") {
  using Lines = std::vector<std::string>;
  CHECK(lines_of("") == Lines{});
  CHECK(lines_of("1\n2") == Lines{"f: line 1=1", "f: line 2=2"});
  CHECK(lines_of("\xEF\xBB\xBF{\"a\":1}\r\n\r\n \t\n[2]\r\n") == Lines{"f: line 1={\"a\":1}", "f: line 4=[2]"});
  CHECK(lines_of("\xEF\xBB\xBF\r\nnull\n") == Lines{"f: line 2=null"});
  CHECK(lines_of("1\n{\n") == Lines{"f: line 1=1", "f: line 2: parse error at column 2: the text ends too early"});
  CHECK(lines_of("1 2\n") == Lines{"f: line 1: parse error at column 3: unexpected '2'"});
  const auto complain = [](const std::string& text) {
    for_each_json_line("0\n0\n", "f", [&](const auto&, const std::string& where) { throw Error(text + where, "h"); });
  };
  CHECK_THROWS_WITH(complain(""), Equals("f: line 1"));
  CHECK_THROWS_WITH(complain("in "), Equals("f: line 1: in f: line 1"));
}

TEST_CASE("JSON: integers are never cut, and nothing else is an integer") {
  const auto integer = [](const std::string& number) {
    return read(number, [](const JsonNode& node) { return node.integer(); });
  };
  CHECK(integer("-9223372036854775808") == "-9223372036854775808");
  CHECK(integer("9223372036854775807") == "9223372036854775807");
  for (const char* number : {"9223372036854775808", "18446744073709551616", "1.0", "1e3", "-0.5", "true", "null"})
    CHECK_THAT(integer(number), ContainsSubstring("a.json.n: expected an integer, found "));
  CHECK_THAT(integer("\"7\""), Equals("a.json.n: expected an integer, found '7'"));
  CHECK_THAT(integer("[7]"), Equals("a.json.n: expected an integer, found an array"));

  const auto byte = [](const std::string& number) {
    return read(number, [](const JsonNode& node) { return node.integer(0, 255); });
  };
  CHECK(byte("255") == "255");
  for (const char* number : {"256", "-1", "4294967296", "18446744073709551615"})
    CHECK_THAT(byte(number), Equals(fmt::format("a.json.n: expected an integer from 0 to 255, found {}", number)));

  const auto seed = [](const std::string& number) {
    return read(number, [](const JsonNode& node) { return node.unsigned_integer(); });
  };
  CHECK(seed("18446744073709551615") == "18446744073709551615");
  for (const char* number : {"-1", "18446744073709551616", "2.5", "false"})
    CHECK_THAT(seed(number), ContainsSubstring("expected an integer from 0 to 2^64 - 1, found"));

  const auto number = [](const std::string& text) {
    return read(text, [](const JsonNode& node) { return node.number(); });
  };
  CHECK(number("3") == "3");
  CHECK(number("0.25") == "0.25");
  CHECK_THAT(number("true"), Equals("a.json.n: expected a number, found true"));
}
